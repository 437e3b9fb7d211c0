"""A container's life: start, pause, end, remove. What a user may ask is in ``containers``; what comes before a start
in ``preparation``, what comes after an end in ``cleanup``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace

from enxame.engine import cgroups, restart_policy
from enxame.engine.bundle import cgroup_path
from enxame.engine.cleanup import Cleanup
from enxame.engine.container import Container
from enxame.engine.container_record import Condition
from enxame.engine.oci_spec import limits
from enxame.engine.preparation import Preparation
from enxame.engine.runtime import Created, RuntimeFailure
from enxame.engine.surroundings import Surroundings
from enxame.errors import Conflict, EnxameError, NotModified
from enxame.model.base import ZERO_TIME
from enxame.model.container import HostConfig

_log = logging.getLogger(__name__)

KILLED = 137
#: The exit code of a container whose end nobody saw (a reboot).
UNSEEN = 255
_KILL_DEADLINE = 10.0
#: How long an attached client may take to read a container's last words, in seconds.
_STALLED_CLIENT = 2.0


def _now() -> datetime:
    return datetime.now(UTC)


class Lifecycle:
    """The steps. ``forget`` drops a container from the table; ``started`` is told of one that runs, ``log_goes`` before
    the log of one is removed.
    """

    def __init__(
        self,
        around: Surroundings,
        *,
        find: Callable[[str], Container],
        forget: Callable[[Container], None],
        started: Callable[[Container], None],
        log_goes: Callable[[Container], Awaitable[None]],
    ) -> None:
        self.around = around
        self.cleanup = Cleanup(around)
        self._preparation = Preparation(around, self.cleanup, find)
        self._forget, self._started, self._log_goes = forget, started, log_goes
        self.stopping = False

    # -- start

    async def prepare(self, container: Container) -> None:
        """See :meth:`Preparation.prepare`."""
        await self.around.turns.wait()
        await self._preparation.prepare(container)

    async def start(self, container: Container) -> None:
        """Run a container that does not. The caller holds the lock.

        Raises:
            NotModified: it runs already.
            EnxameError: it could not be started; the container shows why.
        """
        if container.condition.paused:
            raise Conflict("cannot start a paused container, try unpause instead")
        if container.running:
            raise NotModified
        if container.removing or container.condition.status == "dead":
            raise Conflict("container is marked for removal and cannot be started")
        try:
            await self.prepare(container)
        except BaseException:
            self._leave(container)
            raise
        created = container.created
        assert created is not None  # prepare's promise
        container.starting = True
        try:
            self._watch(container, created)
            self._join(container)
            try:
                await self.around.runtime(container).start(container.id)
            except (RuntimeFailure, OSError) as error:
                failure = self._preparation.failure(container, str(error))
                self.around.change(container, error=failure.message, exit_code=getattr(failure, "exit_code", 128))
                container.starting = False
                await asyncio.shield(self.cleanup.begin(container))
                raise failure from error
            container.started_mono = time.monotonic()
            self.around.change(
                container,
                status="running",
                paused=False,
                exit_code=0,
                error="",
                oom_killed=False,
                started_at=_now(),
                finished_at=ZERO_TIME,
                stopped_by_user=False,
            )
            container.created = None
            container.adopted = False
        finally:
            container.starting = False
        self.around.publish(container, "start")
        self._started(container)
        # It may have ended before we said that it runs.
        self.exit_appeared(container)

    def _join(self, container: Container) -> None:
        """Let clients that came before the start in, so that they miss nothing."""
        waiting, container.joining = container.joining, []
        for attachment in waiting:
            try:
                attachment.connect(self.around.bundle(container))
            except OSError as error:
                _log.error("a client cannot be attached to container %s: %s", container.id, error)
                attachment.abandon()

    def _leave(self, container: Container) -> None:
        waiting, container.joining = container.joining, []
        for attachment in waiting:
            attachment.abandon()

    def _watch(self, container: Container, created: Created) -> None:
        loop = asyncio.get_running_loop()
        ended, monitor_ended = loop.create_future(), loop.create_future()
        ended.add_done_callback(lambda _: self._process_ended(container))
        monitor_ended.add_done_callback(lambda _: self._monitor_ended(container, created))
        try:
            container.watch(created, ended, monitor_ended)
        except ProcessLookupError:
            monitor_ended.set_result(None)

    def adopt(self, container: Container) -> None:
        """Go on with a container that runs since before this daemon."""
        condition = container.condition
        container.adopted = True
        ran_for = (_now() - condition.started_at).total_seconds()
        container.started_mono = time.monotonic() - max(ran_for, 0.0)
        self._watch(container, Created(condition.pid, condition.monitor_pid))
        self._started(container)
        self.exit_appeared(container)

    async def update(self, container: Container, host: HostConfig) -> None:
        """Change limits and restart policy; where it runs (or is prepared) at once. The caller holds the lock.

        Raises:
            EnxameError: the kernel refused.
        """
        around, path = self.around, cgroup_path(container.definition)
        if container.running or container.created is not None:
            machine = around.machine
            resources = limits(host, swap_limit=machine.kernel.swap, cgroup_version=machine.layout.version)
            try:
                await around.runtime(container).update(
                    container.id, resources, around.bundle(container) / "resources.json"
                )
                if (host.pids_limit or 0) <= 0:
                    await asyncio.to_thread(cgroups.lift_pids_limit, around.machine.layout, path)
            except (RuntimeFailure, OSError) as error:
                raise EnxameError(f"Cannot update container {container.id}: {error}") from error
        await asyncio.to_thread(around.redefine, container, replace(container.definition, host=host))

    # -- pause

    async def pause(self, container: Container) -> None:
        """Freeze all processes of a running container. The caller holds the lock.

        Raises:
            EnxameError: the kernel could not freeze them; they go on.
        """
        await asyncio.to_thread(cgroups.freeze, self.around.machine.layout, cgroup_path(container.definition))
        if not container.running:  # it was killed meanwhile
            return
        self._stop_probing(container)
        self.around.change(container, paused=True)
        self.around.publish(container, "pause")

    async def unpause(self, container: Container) -> None:
        """Let a paused container go on. The caller holds the lock."""
        await self.thaw(container)
        if container.running:
            self.around.publish(container, "unpause")
            self._started(container)

    async def thaw(self, container: Container) -> None:
        """Let the processes run, if they are frozen: a signal may be waiting for them."""
        if container.condition.paused:
            await asyncio.to_thread(cgroups.thaw, self.around.machine.layout, cgroup_path(container.definition))
            if container.condition.paused:
                self.around.change(container, paused=False)

    @staticmethod
    def _stop_probing(container: Container) -> None:
        if container.health is not None:
            container.health.cancel()
            container.health = None

    # -- the end

    def exit_appeared(self, container: Container) -> None:
        """Look whether the monitor has left an exit code, and if so end the run."""
        if container.starting or not (container.running or container.created is not None):
            return
        code = self.around.left_exit_code(container.id)
        if code is not None:
            self._ended(container, code)

    def _process_ended(self, container: Container) -> None:
        """The process has gone; the monitor says with which code, unless a client that does not read holds it up."""
        if container.attached and not self.stopping:
            loop = asyncio.get_running_loop()
            loop.call_later(_STALLED_CLIENT, self._drop_clients, container, container.condition.pid)

    def _drop_clients(self, container: Container, pid: int) -> None:
        if container.running and container.condition.pid == pid:
            for attachment in list(container.attached):
                attachment.drop()

    def _monitor_ended(self, container: Container, created: Created) -> None:
        """The monitor has gone: after the container's end in the ordinary run of things, or killed."""
        if created.pid != container.condition.pid or self.stopping:
            return
        code = self.around.left_exit_code(container.id)
        if code is not None:
            self.exit_appeared(container)
        elif container.running:
            _log.warning("the monitor of container %s was killed: ending the container", container.id)
            container.signal(signal.SIGKILL)
            self._ended(container, KILLED, error="the container's monitor (conmon) was killed")

    def _ended(self, container: Container, code: int, error: str = "") -> None:
        was_running = container.running
        container.unwatch()
        container.created = None
        oom = cgroups.was_out_of_memory(self.around.machine.layout, cgroup_path(container.definition))
        ran_for = time.monotonic() - container.started_mono
        self._stop_probing(container)
        self.around.change(
            container,
            status="exited" if was_running else container.condition.status,
            paused=False,
            exit_code=code,
            error=error,
            oom_killed=oom,
            finished_at=_now(),
        )
        cleanup = self.cleanup.begin(container)
        if not was_running:
            return
        if oom:
            self.around.publish(container, "oom")
        self.around.publish(container, "die", exitCode=str(code), execDuration=str(int(ran_for)))
        self._after_end(container, code, ran_for)
        container.tell_ended(code)
        _ = cleanup

    def _after_end(self, container: Container, code: int, ran_for: float) -> None:
        condition, host = container.condition, container.definition.host
        if self.stopping or container.removing:
            return
        if restart_policy.restarts(
            host.restart_policy,
            exit_code=code,
            stopped_by_user=condition.stopped_by_user,
            count=condition.restart_count,
        ):
            container.restart_delay = restart_policy.next_delay(container.restart_delay, ran_for)
            self.around.change(container, status="restarting", restart_count=condition.restart_count + 1)
            container.restart = self.around.background.start(
                self._restart_later(container, container.restart_delay), f"restart {container.id[:12]}"
            )
        elif host.auto_remove:
            self.around.background.start(self._remove_ended(container), f"remove {container.id[:12]}")

    async def _restart_later(self, container: Container, delay: float) -> None:
        await asyncio.sleep(delay)
        async with container.lock:
            if container.condition.status != "restarting":
                return
            try:
                await self.start(container)
            except EnxameError as error:
                _log.warning("container %s could not be restarted: %s", container.id, error)
                self.around.change(container, status="exited")

    async def _remove_ended(self, container: Container) -> None:
        async with container.lock:
            if not container.running and not container.removing:
                await self.remove(container, anonymous_volumes=True)

    async def discard(self, container: Container) -> None:
        """Give back what :meth:`prepare` made. The caller holds the lock."""
        container.signal(signal.SIGKILL)
        await asyncio.shield(self.cleanup.begin(container))

    async def stop(self, container: Container, number: int, timeout: float | None) -> None:
        """End a running container: ``number`` first, SIGKILL after ``timeout`` seconds (None: never)."""
        ended = container.ended()
        container.signal(number)
        self.around.publish(container, "kill", signal=str(number))
        await self.thaw(container)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(ended)
        except TimeoutError:
            await self.kill(container)
        await self.cleanup.done(container)

    async def kill(self, container: Container) -> None:
        """SIGKILL, and wait for the end. Raises EnxameError when the kernel does not let it end."""
        ended = container.ended()
        container.signal(signal.SIGKILL)
        self.around.publish(container, "kill", signal=str(int(signal.SIGKILL)))
        await self.thaw(container)
        try:
            async with asyncio.timeout(_KILL_DEADLINE):
                await asyncio.shield(ended)
        except TimeoutError as error:
            raise EnxameError(
                f"container {container.id} PID {container.condition.pid} is zombie and can not be killed. "
                "Use the --init option when creating containers to run an init inside the container that forwards "
                "signals and reaps processes"
            ) from error

    async def remove(self, container: Container, *, anonymous_volumes: bool) -> None:
        """Remove a container that does not run. The caller holds the lock."""
        container.removing = True
        try:
            if container.restart is not None:
                container.restart.cancel()
            await self.cleanup.done(container)
            await self.around.images.delete_layer(container.id)
            if anonymous_volumes:
                await self._remove_volumes(container)
            await self._log_goes(container)
            await asyncio.to_thread(self.around.records.delete, container.id)
        except BaseException:
            container.removing = False
            raise
        self._leave(container)
        self._forget(container)
        self.around.publish(container, "destroy")
        container.tell_removed()

    async def _remove_volumes(self, container: Container) -> None:
        for mount in container.definition.mounts:
            if mount.type == "volume" and mount.anonymous:
                try:
                    await self.around.volumes.remove(mount.name)
                except EnxameError as error:  # somebody else uses it by now
                    _log.info("volume %s stays: %s", mount.name, error)

    def restored_condition(self, condition: Condition, code: int | None, exit_file: Path) -> Condition:
        """The condition of a container that ended while no daemon ran."""
        with contextlib.suppress(OSError):
            finished = datetime.fromtimestamp(exit_file.stat().st_mtime, UTC)
            return replace(condition, status="exited", paused=False, exit_code=code or 0, finished_at=finished)
        code = UNSEEN if code is None else code
        return replace(condition, status="exited", paused=False, exit_code=code, finished_at=_now())
