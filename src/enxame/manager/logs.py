"""Brings together what the tasks of a service wrote, from wherever they run."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import replace
from typing import Final, TypeGuard

from enxame.errors import EnxameError, NotFound
from enxame.model.base import Meta
from enxame.model.service import Service
from enxame.model.service_log import ServiceLogRecord
from enxame.model.stream import STDERR, LogOptions, LogRecord
from enxame.model.task import Task, TaskState
from enxame.store.interface import Action
from enxame.store.store import Store

log = logging.getLogger(__name__)

#: Lines of one task that wait for a slow reader; its source is held back beyond that.
QUEUE_LINES: Final = 1000

#: Reads one task's log on the task's node. Raises NotFound when that node has no container for it.
TaskLogReader = Callable[[Task, LogOptions], AsyncIterator[LogRecord]]


class LogBroker:
    """One per manager. ``read`` reaches the node of a task."""

    def __init__(self, store: Store, read: TaskLogReader) -> None:
        self._store = store
        self._read = read

    async def subscribe(
        self, *, service: Service | None = None, task: Task | None = None, options: LogOptions
    ) -> AsyncIterator[ServiceLogRecord]:
        """The lines of a service's tasks, or of one task.

        Without ``follow`` they come in the order of their timestamps and end; with it, what is there comes first and
        then every new line, of tasks too that start meanwhile. A log that cannot be read adds a line that says so.
        """
        tasks = [task] if task is not None else self._tasks_of(service)
        if not options.follow:
            async for record in self._past(tasks, options):
                yield record
            return
        async with aclosing(self._follow(tasks, service, options)) as records:
            async for record in records:
                yield record

    def _tasks_of(self, service: Service | None) -> list[Task]:
        if service is None:
            return []
        tasks = self._store.view.find(Task, "service_id", service.id)
        return [task for task in tasks if task.node_id and task.status.state >= TaskState.READY]

    async def _past(self, tasks: list[Task], options: LogOptions) -> AsyncIterator[ServiceLogRecord]:
        sources = [self._one(task, options) for task in tasks]
        try:
            async for record in _merge(sources):
                yield record
        finally:
            for source in sources:
                await source.aclose()  # type: ignore[attr-defined]

    async def _follow(
        self, tasks: list[Task], service: Service | None, options: LogOptions
    ) -> AsyncGenerator[ServiceLogRecord]:
        follower = _Follower(self._one)
        for task in tasks:
            follower.begin(task, options)
        if service is not None:
            follower.spawn(self._begin_late_tasks(service, follower, replace(options, tail=None)))
        # No TaskGroup: it would turn the GeneratorExit of a client that went away into an exception group.
        try:
            async for record in follower.records():
                yield record
        finally:
            await follower.stop()

    async def _begin_late_tasks(self, service: Service, follower: _Follower, options: LogOptions) -> None:
        """Follow tasks as they start, until the service is removed."""
        async with self._store.watch(Task, Service) as watch:
            for task in self._tasks_of(service):
                follower.begin(task, options)
            while True:
                for event in await watch.next():
                    changed = event.object
                    if isinstance(changed, Service):
                        if changed.id == service.id and event.action is Action.DELETE:
                            return
                    elif _has_output(changed, service):
                        follower.begin(changed, options)

    async def _one(self, task: Task, options: LogOptions) -> AsyncIterator[ServiceLogRecord]:
        try:
            async for record in self._read(task, options):
                yield ServiceLogRecord(
                    record.stream, record.timestamp, record.data, task.node_id, task.service_id, task.id
                )
        except NotFound:
            return  # the container was reaped between the listing and the reading
        except EnxameError as error:
            text = (
                f"warning: incomplete log stream. some logs could not be retrieved for the following reasons: {error}\n"
            )
            yield ServiceLogRecord(STDERR, "", text.encode(), task.node_id, task.service_id, task.id)


def _has_output(changed: Meta, service: Service) -> TypeGuard[Task]:
    return (
        isinstance(changed, Task)
        and changed.service_id == service.id
        and changed.node_id != ""
        and changed.status.state >= TaskState.STARTING
    )


class _Follower:
    """Reads several logs at once into one bounded queue."""

    def __init__(self, read: Callable[[Task, LogOptions], AsyncIterator[ServiceLogRecord]]) -> None:
        self._read = read
        self._queue: asyncio.Queue[ServiceLogRecord] = asyncio.Queue(QUEUE_LINES)
        self._followed: set[str] = set()
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, task: Task, options: LogOptions) -> None:
        """Follow a task's log, once."""
        if task.id not in self._followed:
            self._followed.add(task.id)
            self.spawn(self._pump(task, options))

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run something whose end the records wait for."""
        self._running.add(asyncio.get_running_loop().create_task(work, name="log follower"))

    async def records(self) -> AsyncIterator[ServiceLogRecord]:
        """What comes, until everything that was begun has ended."""
        while True:
            while not self._queue.empty():
                yield self._queue.get_nowait()
            self._running = {task for task in self._running if not task.done()}
            if not self._running:
                return
            arrival = asyncio.ensure_future(self._queue.get())
            try:
                await asyncio.wait({arrival, *self._running}, return_when=asyncio.FIRST_COMPLETED)
                if arrival.done():
                    yield arrival.result()
            finally:
                arrival.cancel()

    async def stop(self) -> None:
        """End all reading."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def _pump(self, task: Task, options: LogOptions) -> None:
        async for record in self._read(task, options):
            await self._queue.put(record)


async def _merge(sources: list[AsyncIterator[ServiceLogRecord]]) -> AsyncIterator[ServiceLogRecord]:
    """Lines of several ordered sources in the order of their timestamps."""
    heads: list[tuple[str, int, ServiceLogRecord]] = []
    for number, source in enumerate(sources):
        first = await anext(source, None)
        if first is not None:
            heads.append((first.timestamp, number, first))
    heapq.heapify(heads)
    while heads:
        _, number, record = heads[0]
        yield record
        following = await anext(sources[number], None)
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (following.timestamp, number, following))
