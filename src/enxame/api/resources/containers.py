"""``/containers``: make, list, look at, remove."""

from __future__ import annotations

from aiohttp import web

from enxame.api.call import Call
from enxame.api.responses import empty_response, json_response
from enxame.api.routing import Routes
from enxame.errors import InvalidArgument
from enxame.model.container import ContainerCreateRequest

routes = Routes()
_FILTERS = (
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
)


@routes.get("/containers/json")
async def list_containers(call: Call) -> web.StreamResponse:
    """All containers that match; without ``all``, those that run."""
    containers = call.api.engine.containers.list(
        all=call.flag("all"), limit=call.integer("limit"), size=call.flag("size"), filters=call.filters(_FILTERS)
    )
    return json_response(containers)


@routes.post("/containers/create")
async def create_container(call: Call) -> web.StreamResponse:
    """Make a container, not yet started."""
    if not call.request.can_read_body:
        raise InvalidArgument("invalid JSON: got EOF while reading request body")
    request = await call.body(ContainerCreateRequest)
    return json_response(await call.api.engine.containers.create(call.text("name"), request), status=201)


@routes.get("/containers/{name}/json")
async def inspect_container(call: Call) -> web.StreamResponse:
    """One container."""
    return json_response(call.api.engine.containers.inspect(call.name, size=call.flag("size")))


@routes.delete("/containers/{name}")
async def remove_container(call: Call) -> web.StreamResponse:
    """Remove a container; with ``force`` a running one too, with ``v`` its anonymous volumes."""
    if call.flag("link"):
        raise InvalidArgument("links are not supported: connect the containers to a network of their own")
    await call.api.engine.containers.remove(call.name, force=call.flag("force"), volumes=call.flag("v"))
    return empty_response(204)


@routes.get("/containers/{name}/top")
async def top(call: Call) -> web.StreamResponse:
    """The container's processes."""
    return json_response(await call.api.engine.containers.top(call.name, call.text("ps_args", "-ef")))


@routes.post("/containers/{name}/rename")
async def rename(call: Call) -> web.StreamResponse:
    """Give it another name."""
    name = call.text("name")
    if not name:
        raise InvalidArgument("Neither old nor new names may be empty")
    call.api.engine.containers.rename(call.name, name)
    return empty_response(204)
