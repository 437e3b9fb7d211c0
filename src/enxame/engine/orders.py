"""What users order a container to do: start, stop, pause, go; and waiting for its end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from msgspec.structs import replace

from enxame.engine import container_view
from enxame.engine.container import Container
from enxame.engine.container_table import ContainerTable
from enxame.engine.lifecycle import Lifecycle
from enxame.engine.signals import parse_signal
from enxame.errors import Conflict, EnxameError, InvalidArgument, NotModified
from enxame.model.container_view import WaitError, WaitResult

__all__ = ["Orders"]

#: Between the stop signal and SIGKILL where nobody says otherwise: seconds.
_DEFAULT_STOP_TIMEOUT: Final = 10.0


class Orders:
    """One order for a container after the other; an order that makes no sense now is refused in Docker's words."""

    def __init__(self, life: Lifecycle, table: ContainerTable) -> None:
        self._life = life
        self._around = life.around
        self._table = table

    async def prepare(self, container: Container) -> None:
        """Do everything of a start but its last step, so that the start itself takes milliseconds. Idempotent."""
        async with container.lock:
            if not container.removing:
                await self._life.prepare(container)

    async def start(self, container: Container) -> None:
        """Run a container. Raises NotModified when it runs. One that cannot be started and goes with its end (``--rm``)
        goes at once: clients wait for that.
        """
        try:
            async with container.lock:
                self._cancel_restart(container)
                if not container.running:
                    # The user's start is a new beginning for the restart policy.
                    container.restart_delay = 0.0
                    container.condition = replace(container.condition, restart_count=0)
                await self._life.start(container)
        except EnxameError:
            if container.definition.host.auto_remove and not container.running:
                await self.remove(container, force=True, volumes=True)
            raise

    def _cancel_restart(self, container: Container) -> None:
        if container.condition.status == "restarting":
            if container.restart is not None:
                container.restart.cancel()
                container.restart = None
            self._around.change(container, status="exited")

    async def stop(self, container: Container, *, signal: str = "", timeout: float | None = None) -> None:
        """End a container: its stop signal (or ``signal``), SIGKILL after ``timeout`` seconds (negative: never).

        Raises:
            NotModified: it does not run.
        """
        await self._stop(container, signal, timeout)
        self._around.publish(container, "stop")

    async def _stop(self, container: Container, signal: str, timeout: float | None) -> None:
        config = container.definition.config
        number = parse_signal(signal or config.stop_signal or "SIGTERM")
        if timeout is None:
            timeout = _DEFAULT_STOP_TIMEOUT if config.stop_timeout is None else float(config.stop_timeout)
        if container.condition.status == "restarting":
            self._cancel_restart(container)
            self._around.change(container, stopped_by_user=True)
            return
        if container.starting:
            async with container.lock:
                pass
        if not container.running:
            if container.created is not None:
                # Prepared, never started: give back what it holds.
                async with container.lock:
                    if container.created is not None:
                        await self._life.discard(container)
            raise NotModified
        await self._around.turns.wait()
        if not container.running:
            raise NotModified
        self._around.change(container, stopped_by_user=True)
        await self._life.stop(container, number, None if timeout < 0 else timeout)

    async def restart(self, container: Container, *, signal: str = "", timeout: float | None = None) -> None:
        """Stop it if it runs, and start it."""
        with contextlib.suppress(NotModified):
            await self._stop(container, signal, timeout)
            self._around.publish(container, "stop")
        async with container.lock:
            with contextlib.suppress(NotModified):
                await self._life.start(container)
        self._around.publish(container, "restart")

    async def kill(self, container: Container, signal: str, ref: str) -> None:
        """Send a signal. SIGKILL waits for the end.

        Raises:
            Conflict: it does not run.
        """
        number = parse_signal(signal or "SIGKILL")
        if not container.running:
            raise Conflict(f"Cannot kill container: {ref}: Container {container.id} is not running")
        config = container.definition.config
        ends = number in {9, parse_signal(config.stop_signal or "SIGTERM")}
        if ends:
            self._around.change(container, stopped_by_user=True)
        if number == 9:
            await self._life.kill(container)
            return
        if not container.signal(number):
            raise Conflict(f"Cannot kill container: {ref}: Container {container.id} is not running")
        self._around.publish(container, "kill", signal=str(number))
        if ends:
            await self._life.thaw(container)

    async def pause(self, container: Container) -> None:
        """Freeze all its processes. Raises Conflict when it does not run or is paused."""
        async with container.lock:
            if not container.running:
                raise Conflict(f"Container {container.id} is not running")
            if container.condition.paused:
                raise Conflict(f"Container {container.id} is already paused")
            await self._life.pause(container)

    async def unpause(self, container: Container) -> None:
        """Let its processes go on. Raises Conflict when it is not paused."""
        async with container.lock:
            if not container.condition.paused:
                raise Conflict(f"Container {container.id} is not paused")
            await self._life.unpause(container)

    async def remove(self, container: Container, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container; with ``force`` a running one is killed first, ``volumes``: its anonymous ones too.

        Raises:
            Conflict: it runs, or somebody else is removing it.
        """
        if container.removing:
            raise Conflict(f"removal of container {container.id} is already in progress")
        if container.condition.status in {"running", "restarting"} and not force:
            state = container_view.state_word(container)
            advice = "unpause and then stop" if state == "paused" else "stop"
            raise Conflict(
                f'cannot remove container "/{container.name}": container is {state}: '
                f"{advice} the container before removing or force remove"
            )
        await self._around.turns.wait()
        self._around.change(container, stopped_by_user=True)
        async with container.lock:
            if container.id not in self._table.by_id:
                return
            self._cancel_restart(container)
            container.removing = True
            try:
                if container.running:
                    await self._life.kill(container)
                elif container.created is not None:
                    await self._life.discard(container)
                await self._life.remove(container, anonymous_volumes=volumes)
            finally:
                container.removing = container.id not in self._table.by_id

    async def wait(self, container: Container, condition: str = "not-running") -> WaitResult:
        """Wait until the container does not run, until its next exit, or until it is removed.

        Raises:
            InvalidArgument: an unknown condition.
        """
        match condition:
            case "" | "not-running":
                while container.condition.status in {"running", "restarting"}:
                    await asyncio.shield(container.next_exit())
                    if container.condition.status == "restarting":
                        # Docker answers at the first end, restart or not.
                        break
            case "next-exit":
                return WaitResult(status_code=await asyncio.shield(container.next_exit()))
            case "removed":
                await asyncio.shield(container.removed())
                return WaitResult(status_code=container.condition.exit_code)
            case _:
                raise InvalidArgument(f'invalid condition: "{condition}"')
        error = container.condition.error
        return WaitResult(status_code=container.condition.exit_code, error=WaitError(message=error) if error else None)
