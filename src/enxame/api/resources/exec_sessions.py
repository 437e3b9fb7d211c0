"""``/exec`` and ``/containers/{id}/exec``: processes beside a container's own."""

from __future__ import annotations

from aiohttp import web
from msgspec import field

from enxame.api import detach_keys
from enxame.api.answers import ExecCreated
from enxame.api.call import Call
from enxame.api.hijack import converse
from enxame.api.responses import empty_response, json_response
from enxame.api.routing import Routes
from enxame.api.streams import RAW_STREAM
from enxame.model.base import Model
from enxame.model.exec import ExecCreateRequest, ExecInspect

routes = Routes()


class ExecStartRequest(Model):
    """Body of ``POST /exec/{id}/start``."""

    detach: bool = False
    tty: bool = field(default=False, name="Tty")
    #: Height and width.
    console_size: list[int] | None = None


@routes.post("/containers/{name}/exec", body=ExecCreateRequest, answer=ExecCreated, status=201, errors=(404, 409))
async def create_exec(call: Call) -> web.StreamResponse:
    """Prepare a process."""
    request = await call.body(ExecCreateRequest)
    return json_response(ExecCreated(id=await call.api.engine.containers.exec_create(call.name, request)), status=201)


@routes.post("/exec/{name}/start", body=ExecStartRequest, media=RAW_STREAM, answer=bytes, errors=(404, 409))
async def start_exec(call: Call) -> web.StreamResponse:
    """Run it, attached unless the client does not want to be."""
    request = await call.body(ExecStartRequest)
    containers = call.api.engine.containers
    prepared = containers.exec_inspect(call.name)
    keys = detach_keys.parse(prepared.detach_keys)
    attachment = await containers.exec_start(call.name, detach=request.detach, tty=request.tty)
    if attachment is None:
        return empty_response()
    if request.console_size is not None and len(request.console_size) == 2 and request.tty:
        await containers.exec_resize(call.name, request.console_size[0], request.console_size[1])
    return await converse(call, attachment, stdin=prepared.open_stdin, keys=keys)


@routes.post("/exec/{name}/resize", query={"h*": int, "w*": int}, errors=(404,))
async def resize_exec(call: Call) -> web.StreamResponse:
    """Tell its terminal its size."""
    height, width = call.required_integer("h"), call.required_integer("w")
    await call.api.engine.containers.exec_resize(call.name, height, width)
    return empty_response()


@routes.get("/exec/{name}/json", answer=ExecInspect, errors=(404,), looks=True)
async def inspect_exec(call: Call) -> web.StreamResponse:
    """How it is, or how it ended."""
    return json_response(call.api.engine.containers.exec_inspect(call.name))
