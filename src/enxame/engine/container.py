"""A container in memory: what it is, how it is, and who waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from enxame.engine.container_record import Condition, Definition
from enxame.engine.processes import Process, unwatch, watch_end
from enxame.engine.runtime import Created

if TYPE_CHECKING:
    from enxame.engine.attachment import ContainerAttachment
    from enxame.engine.exec_session import ExecSession


class Container:
    """``lock`` is held through every change of state that takes several steps (start, remove)."""

    def __init__(self, definition: Definition, condition: Condition) -> None:
        self.definition = definition
        self.condition = condition
        self.lock = asyncio.Lock()
        #: Made by the runtime, stopped before its first instruction.
        self.created: Created | None = None
        #: Start is between the runtime's and ours: an exit is handled by it.
        self.starting = False
        self.removing = False
        #: It runs since before this daemon started.
        self.adopted = False
        #: Why the monitor's death ended it; shown as the error of the run.
        self.cleanup: asyncio.Task[None] | None = None
        self.restart: asyncio.Task[None] | None = None
        self.health: asyncio.Task[None] | None = None
        self.restart_delay = 0.0
        self.started_mono = 0.0
        #: Who reads or writes its files: the last one gives its filesystem back when it does not run.
        self.file_users = 0
        self.execs: dict[str, ExecSession] = {}
        #: The runtime's processes that run execs and probes in it; they write into its bundle until they end.
        self.exec_processes: set[Process] = set()
        #: Clients that attached before the start.
        self.joining: list[ContainerAttachment] = []
        #: Clients that hold its streams.
        self.attached: set[ContainerAttachment] = set()
        self._ended: asyncio.Future[None] | None = None
        self._next_exit: asyncio.Future[int] | None = None
        self._removed: asyncio.Future[None] | None = None
        self._pidfd = -1
        self._monitor_pidfd = -1

    @property
    def id(self) -> str:
        """64 hex digits."""
        return self.definition.id

    @property
    def name(self) -> str:
        """Without a leading slash."""
        return self.definition.name

    @property
    def running(self) -> bool:
        """Its process runs (or is paused)."""
        return self.condition.status == "running"

    # -- its processes

    def watch(self, created: Created, ended: asyncio.Future[None], monitor_ended: asyncio.Future[None]) -> None:
        """Hold on to the processes. Raises ProcessLookupError when one has gone already."""
        self.unwatch()
        try:
            self._pidfd = watch_end(created.pid, ended)
        except ProcessLookupError:
            ended.set_result(None)
        self._monitor_pidfd = watch_end(created.monitor_pid, monitor_ended)

    def unwatch(self) -> None:
        """Let go of the processes. Idempotent."""
        for descriptor in (self._pidfd, self._monitor_pidfd):
            if descriptor >= 0:
                unwatch(descriptor)
        self._pidfd = self._monitor_pidfd = -1

    def signal(self, number: int) -> bool:
        """Signal the container's first process. False when it has ended."""
        if self._pidfd < 0:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        return True

    # -- who waits

    def ended(self) -> asyncio.Future[None]:
        """Resolves when the container does not run; at once when it does not now."""
        if self._ended is None or (self._ended.done() and (self.running or self.starting)):
            self._ended = asyncio.get_running_loop().create_future()
            if not (self.running or self.starting):
                self._ended.set_result(None)
        return self._ended

    def next_exit(self) -> asyncio.Future[int]:
        """Resolves with the exit code of the run that ends next."""
        if self._next_exit is None:
            self._next_exit = asyncio.get_running_loop().create_future()
        return self._next_exit

    def removed(self) -> asyncio.Future[None]:
        """Resolves when the container has been removed."""
        if self._removed is None:
            self._removed = asyncio.get_running_loop().create_future()
        return self._removed

    def tell_ended(self, code: int) -> None:
        """Wake who waits for the end of a run."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        if self._next_exit is not None:
            if not self._next_exit.done():
                self._next_exit.set_result(code)
            self._next_exit = None

    def tell_removed(self) -> None:
        """Wake who waits for the removal; and whoever waited for an exit that will not come."""
        self.tell_ended(self.condition.exit_code)
        if not self.removed().done():
            self.removed().set_result(None)


def process_start(pid: int) -> int:
    """A process's start in clock ticks since boot; 0 when there is none (or only its zombie)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return 0 if fields[0] == "Z" else int(fields[19])
    return 0
