"""``/services/{id}/logs`` and ``/tasks/{id}/logs``: one stream of many containers' output."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote_plus

from aiohttp import web

from enxame.api.call import Call
from enxame.api.log_query import LOG_QUERY, log_options
from enxame.api.routing import Routes
from enxame.api.streams import MULTIPLEXED_STREAM, closing_on_exit, frame, output_type, stream_bytes
from enxame.model.service import Service
from enxame.model.service_log import ServiceLogRecord
from enxame.model.task import Task

routes = Routes()


@routes.get(
    "/services/{name}/logs",
    query={**LOG_QUERY, "details": bool},
    media=MULTIPLEXED_STREAM,
    answer=bytes,
    errors=(404, 503),
    looks=True,
    leader=True,
)
async def service_logs(call: Call) -> web.StreamResponse:
    """What the service's tasks have written."""
    manager = call.api.membership.manager
    service = manager.services.get(call.name)
    container = service.spec.task_template.container_spec
    return await _logs(call, tty=container is not None and container.tty, service=service)


@routes.get(
    "/tasks/{name}/logs",
    query={**LOG_QUERY, "details": bool},
    media=MULTIPLEXED_STREAM,
    answer=bytes,
    errors=(404, 503),
    looks=True,
    leader=True,
)
async def task_logs(call: Call) -> web.StreamResponse:
    """What one task has written."""
    task = call.api.membership.manager.tasks.get(call.name)
    container = task.spec.container_spec
    return await _logs(call, tty=container is not None and container.tty, task=task)


async def _logs(
    call: Call, *, tty: bool, service: Service | None = None, task: Task | None = None
) -> web.StreamResponse:
    options = log_options(call)
    records = call.api.membership.manager.logs.subscribe(service=service, task=task, options=options)
    rendered = _rendered(records, tty=tty, stamps=call.flag("timestamps"), details=call.flag("details"))
    return await stream_bytes(call, output_type(call, tty=tty), rendered)


async def _rendered(
    records: AsyncIterator[ServiceLogRecord], *, tty: bool, stamps: bool, details: bool
) -> AsyncIterator[bytes]:
    async with closing_on_exit(records) as source:
        async for record in source:
            line = record.data
            if details:
                line = f"{attributes(record)} ".encode() + line
            if stamps:
                line = f"{record.timestamp} ".encode() + line
            yield line if tty else frame(record.stream, line)


def attributes(record: ServiceLogRecord) -> str:
    """Where a line comes from, as the stock CLI parses it to print ``web.1.abc@node    |``."""
    pairs = {
        **record.attrs,
        "com.docker.swarm.node.id": record.node_id,
        "com.docker.swarm.service.id": record.service_id,
        "com.docker.swarm.task.id": record.task_id,
    }
    return ",".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in sorted(pairs.items()))
