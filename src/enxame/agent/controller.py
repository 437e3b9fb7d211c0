"""What carries a task out: the seam between the task's state machine and whatever runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from enxame.model.node import NodeDescription
from enxame.model.service import PortConfig
from enxame.model.task import ContainerStatus, Task

#: Called with a task's id before it is told to stop: returns when nobody sends it anything new, or soon.
Withdraw = Callable[[str], Awaitable[None]]


class TaskError(Exception):
    """The task cannot go on; the text is shown as the task's error."""


class Controller(Protocol):
    """Runs one task. Every method may be called again after a crash, and after it was cancelled half-way."""

    async def prepare(self) -> None:
        """Everything before the start: image, container, mounts. Raises TaskError."""
        ...

    async def start(self) -> None:
        """Start and return once it runs and, where it has a health check, is healthy. Raises TaskError."""
        ...

    async def wait(self) -> None:
        """Return when it ended by itself with success. Raises TaskError when it failed or turned unhealthy."""
        ...

    async def shutdown(self) -> None:
        """Stop gracefully within the task's grace period, then by force. Nothing to stop is success."""
        ...

    async def remove(self) -> None:
        """Stop by force if need be and leave nothing behind."""
        ...

    def is_running(self) -> bool:
        """It was started before (perhaps by an earlier daemon) and runs now."""
        ...

    def was_started(self) -> bool:
        """It was started at some time before; with ``is_running`` false: it ended while nobody looked."""
        ...

    def container_status(self) -> ContainerStatus | None:
        """The container behind the task, once there is one."""
        ...

    def host_ports(self) -> list[PortConfig]:
        """Ports published on this machine alone, as they were bound."""
        ...


class Executor(Protocol):
    """Makes controllers and speaks for the machine."""

    def controller(self, task: Task, withdraw: Withdraw) -> Controller:
        """The controller of a task; made anew after a restart it finds what runs already. Before it stops what runs it
        calls ``withdraw``.
        """
        ...

    def describe(self) -> NodeDescription:
        """What this machine offers."""
        ...
