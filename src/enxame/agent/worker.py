"""Takes one task from assignment to its end, and cleans up behind it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime

from msgspec.structs import replace

from enxame.agent import task_machine
from enxame.agent.controller import Controller, TaskError
from enxame.agent.task_machine import Operation
from enxame.model.task import PortStatus, Task, TaskState, TaskStatus

log = logging.getLogger(__name__)

#: Between two tries of a stop or removal that the engine refused: seconds.
RETRY_DELAY = 1.0


class _Interrupted(Exception):
    """The desired state overtook what the worker was doing."""


class TaskWorker:
    """One per task. Reports every step through ``on_change`` with the whole task; states only ever grow."""

    def __init__(
        self,
        task: Task,
        controller: Controller,
        on_change: Callable[[Task], None],
        wall: Callable[[], datetime],
    ) -> None:
        self.task = task
        self._controller = controller
        self._on_change = on_change
        self._wall = wall
        self._changed = asyncio.Event()
        self._removing = False
        self._patience = 0.0

    def desire(self, task: Task) -> None:
        """The manager's newest word on the task: of it, only the desired state may differ."""
        if task.desired_state > self.task.desired_state:
            self.task = replace(self.task, desired_state=task.desired_state, version=task.version)
            self._changed.set()

    def remove(self, patience: float = 0.0) -> None:
        """End the task whatever it does and remove its container; :meth:`run` returns then. With ``patience`` it is
        told to stop first, as gracefully as its spec says, but within so many seconds.
        """
        self._removing = True
        self._patience = patience
        self._changed.set()

    async def run(self) -> None:
        """Carry the task out; returns when it was removed. Cancelling leaves the container running."""
        await self._live()
        while not self._removing:
            self._changed.clear()
            await self._changed.wait()
        if self._patience and self._controller.is_running():
            with suppress(TaskError, TimeoutError):
                async with asyncio.timeout(self._patience):
                    await self._controller.shutdown()
        await self._retry(self._controller.remove, "remove")

    async def _live(self) -> None:
        try:
            self._check_resumed()
            while not self._removing:
                plan = task_machine.plan(self.task.status.state, self.task.desired_state)
                for transition in plan.reports:
                    self._advance(transition.state, transition.message)
                if plan.operation is Operation.NOTHING:
                    if self.task.status.state.is_terminal:
                        return
                    self._changed.clear()
                    await self._changed.wait()
                else:
                    await self._operate(plan.operation)
        except TaskError as error:
            self._fail(str(error))
        except Exception as error:
            # A bug of ours must not leave a task hanging: it fails, and the orchestrator decides.
            log.exception("task %s failed unexpectedly", self.task.id)
            self._fail(f"internal error: {error}")

    def _check_resumed(self) -> None:
        """After a restart of the daemon: a task that was started must have its container."""
        state = self.task.status.state
        if TaskState.STARTING <= state <= TaskState.RUNNING and not self._controller.was_started():
            raise TaskError("the task's container is gone")

    async def _operate(self, operation: Operation) -> None:
        try:
            if operation is Operation.SHUTDOWN:
                await self._retry(self._controller.shutdown, "stop")
            elif operation is Operation.PREPARE:
                await self._interruptible(self._controller.prepare())
            elif operation is Operation.START and not self._ended_unseen():
                await self._interruptible(self._controller.start())
            else:
                await self._interruptible(self._controller.wait())
        except _Interrupted:
            return
        done = task_machine.succeeded(operation)
        self._advance(done.state, done.message)

    def _ended_unseen(self) -> bool:
        """It was started, and ended before anybody wrote that down: its exit is waiting, not another start."""
        return (
            self.task.status.state is TaskState.STARTING
            and self._controller.was_started()
            and not self._controller.is_running()
        )

    def _fail(self, reason: str) -> None:
        self._advance(task_machine.failed(self.task.status.state), self.task.status.message, reason)

    async def _interruptible(self, step: Coroutine[None, None, None]) -> None:
        """Run a step to its end, unless the task is to stop before."""
        running = asyncio.ensure_future(step)
        try:
            while not running.done():
                if self._removing or task_machine.is_to_stop(self.task.desired_state):
                    raise _Interrupted
                self._changed.clear()
                changed = asyncio.ensure_future(self._changed.wait())
                try:
                    await asyncio.wait({running, changed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
            await running
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait({running})

    async def _retry(self, step: Callable[[], Coroutine[None, None, None]], what: str) -> None:
        while True:
            try:
                await step()
            except TaskError as error:
                log.warning("task %s: cannot %s its container, trying again: %s", self.task.id, what, error)
                await asyncio.sleep(RETRY_DELAY)
            else:
                return

    def _advance(self, state: TaskState, message: str, err: str = "") -> None:
        if state <= self.task.status.state:
            return
        running = state is TaskState.RUNNING
        status = TaskStatus(
            timestamp=self._wall(),
            state=state,
            message=message,
            err=err,
            container_status=self._controller.container_status() if state >= TaskState.READY else None,
            port_status=PortStatus(ports=self._controller.host_ports()) if running else self.task.status.port_status,
        )
        self.task = replace(self.task, status=status)
        self._on_change(self.task)
