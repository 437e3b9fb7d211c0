"""Reads a task's log on the node where it ran: here, or over the link that the node opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from enxame.manager.logs import TaskLogReader
from enxame.model.stream import LogOptions, LogRecord
from enxame.model.task import Task
from enxame.transport.methods import NODE_LOGS, LogRequest
from enxame.transport.peer import Peer


def task_log_reader(own_node_id: str, own: TaskLogReader, link: Callable[[str], Peer]) -> TaskLogReader:
    """The reader of a manager; ``own`` reads the logs of its own node's tasks, ``link`` finds the link of another."""

    async def read(task: Task, options: LogOptions) -> AsyncIterator[LogRecord]:
        if task.node_id == own_node_id:
            async for record in own(task, options):
                yield record
            return
        request = LogRequest(
            task=task,
            stdout=options.stdout,
            stderr=options.stderr,
            follow=options.follow,
            tail=options.tail,
            since=options.since,
            until=options.until,
        )
        async with aclosing(link(task.node_id).stream(NODE_LOGS, request)) as lines:
            async for line in lines:
                yield LogRecord(line.stream, line.timestamp, line.data)

    return read
