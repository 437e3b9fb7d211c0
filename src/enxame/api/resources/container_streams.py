"""``/containers/{id}/logs``, ``attach`` and ``stats``: what flows out of containers, and into them."""

from __future__ import annotations

from aiohttp import web

from enxame.api import detach_keys
from enxame.api.call import Call
from enxame.api.connection import cancelled_on_disconnect
from enxame.api.hijack import converse
from enxame.api.log_query import LOG_QUERY, log_options
from enxame.api.responses import json_response
from enxame.api.routing import Routes
from enxame.api.streams import (
    MULTIPLEXED_STREAM,
    RAW_STREAM,
    closing_on_exit,
    first_of,
    output_type,
    stream_bytes,
    stream_json,
)
from enxame.api.websocket import converse_by_websocket
from enxame.errors import InvalidArgument, NotFound
from enxame.model.stats import ContainerStats
from enxame.model.stream import AttachOptions

routes = Routes()


@routes.get(
    "/containers/{name}/logs",
    query={**LOG_QUERY, "details": bool},
    media=MULTIPLEXED_STREAM,
    answer=bytes,
    errors=(404,),
    looks=True,
)
async def logs(call: Call) -> web.StreamResponse:
    """What the container has written; with ``follow`` also what it will."""
    options = log_options(call)
    containers = call.api.engine.containers
    seen = containers.inspect(call.name)
    tty = seen.config.tty
    batches = containers.log_bytes(seen.id, options, stamps=call.flag("timestamps"), details=call.flag("details"))
    if seen.host_config.log_config.type == "none":
        # Before the headers: afterwards nobody could be told.
        batches = await first_of(batches)
    return await stream_bytes(call, output_type(call, tty=tty), batches)


_ATTACH_QUERY = {"stdin": bool, "stdout": bool, "stderr": bool, "logs": bool, "stream": bool, "detachKeys": str}


@routes.post("/containers/{name}/attach", query=_ATTACH_QUERY, media=RAW_STREAM, answer=bytes, errors=(404, 409))
async def attach(call: Call) -> web.StreamResponse:
    """Connect the client's terminal or pipes with the container's."""
    options, keys = _attach_options(call)
    attachment = await call.api.engine.containers.attach(call.name, options)
    return await converse(call, attachment, stdin=options.stdin, keys=keys)


@routes.get(
    "/containers/{name}/attach/ws", query=_ATTACH_QUERY, media=RAW_STREAM, answer=bytes, status=101, errors=(404, 409)
)
async def attach_by_websocket(call: Call) -> web.StreamResponse:
    """The same over a WebSocket: messages are what the process reads and writes."""
    options, keys = _attach_options(call)
    attachment = await call.api.engine.containers.attach(call.name, options)
    return await converse_by_websocket(call, attachment, stdin=options.stdin, keys=keys)


def _attach_options(call: Call) -> tuple[AttachOptions, bytes]:
    options = AttachOptions(
        stdin=call.flag("stdin"),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        logs=call.flag("logs"),
        stream=call.flag("stream"),
    )
    return options, detach_keys.parse(call.text("detachKeys"))


@routes.get(
    "/containers/{name}/stats",
    query={"stream": bool, "one-shot": bool},
    answer=ContainerStats,
    errors=(404,),
    looks=True,
)
async def stats(call: Call) -> web.StreamResponse:
    """The container's use of resources: samples as long as the client listens, or one."""
    containers = call.api.engine.containers
    container_id = containers.inspect(call.name).id
    stream = call.flag("stream", default=True)
    one_shot = call.flag("one-shot")
    if stream and one_shot and "stream" in call.query:
        raise InvalidArgument("cannot have stream=true and one-shot=true")
    stream = stream and not one_shot
    samples = containers.stats(container_id, stream=stream, compared=not one_shot)
    if stream:
        return await stream_json(call, samples)
    with cancelled_on_disconnect(call.request):
        async with closing_on_exit(samples) as source:
            async for sample in source:
                return json_response(sample)
    raise NotFound(f"No such container: {call.name}")
