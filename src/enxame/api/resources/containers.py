"""``/containers``: make, list, look at, remove."""

from __future__ import annotations

from aiohttp import web
from msgspec.structs import replace

from enxame.api.call import Call
from enxame.api.responses import empty_response, json_response
from enxame.api.routing import Routes
from enxame.engine.pruning import PRUNE_FILTERS
from enxame.errors import InvalidArgument
from enxame.model.container import ContainerCreateRequest, ContainerUpdateRequest
from enxame.model.container_view import (
    ContainerCreateResponse,
    ContainerInspect,
    ContainerSummary,
    ContainerUpdateResponse,
    PruneReport,
    TopResult,
)

routes = Routes()
_WITHOUT_NAMES = frozenset({"bridge", "default", "host", "none"})
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


@routes.get(
    "/containers/json",
    query={"all": bool, "limit": int, "size": bool, "filters": _FILTERS},
    answer=list[ContainerSummary],
    errors=(404,),
    looks=True,
)
async def list_containers(call: Call) -> web.StreamResponse:
    """All containers that match; without ``all``, those that run."""
    containers = call.api.engine.containers
    wanted = call.filters(_FILTERS)
    show_all, limit = call.flag("all"), call.integer("limit")
    if call.flag("size"):
        return json_response(await containers.list_with_sizes(all=show_all, limit=limit, filters=wanted))
    return json_response(containers.list(all=show_all, limit=limit, filters=wanted))


@routes.post(
    "/containers/create",
    query={"name": str, "platform": str},
    body=ContainerCreateRequest,
    answer=ContainerCreateResponse,
    status=201,
    errors=(404, 409),
)
async def create_container(call: Call) -> web.StreamResponse:
    """Make a container, not yet started."""
    if not call.request.can_read_body:
        raise InvalidArgument("invalid JSON: got EOF while reading request body")
    request = await call.body(ContainerCreateRequest)
    made = await call.api.engine.containers.create(call.text("name"), request, platform=call.text("platform"))
    return json_response(made, status=201)


@routes.get("/containers/{name}/json", query={"size": bool}, answer=ContainerInspect, errors=(404,), looks=True)
async def inspect_container(call: Call) -> web.StreamResponse:
    """One container."""
    container = call.api.engine.containers.inspect(call.name)
    if call.flag("size"):
        (container,) = await call.api.sizes.added(call.api.engine, [container])
    if call.version < (1, 45):
        container = _with_all_names(container)
    return json_response(container)


def _with_all_names(container: ContainerInspect) -> ContainerInspect:
    """For older clients, with the container's own names among its aliases: docker-compose 1.29 connects it anew if it
    does not find them.
    """
    settings = container.network_settings
    own = [container.id[:12], container.config.hostname]
    networks = {
        name: endpoint
        if name in _WITHOUT_NAMES
        else replace(endpoint, aliases=list(dict.fromkeys([*(endpoint.aliases or []), *filter(None, own)])))
        for name, endpoint in settings.networks.items()
    }
    return replace(container, network_settings=replace(settings, networks=networks))


@routes.delete("/containers/{name}", query={"force": bool, "v": bool, "link": bool}, status=204, errors=(404, 409))
async def remove_container(call: Call) -> web.StreamResponse:
    """Remove a container; with ``force`` a running one too, with ``v`` its anonymous volumes."""
    if call.flag("link"):
        raise InvalidArgument("links are not supported: connect the containers to a network of their own")
    await call.api.engine.containers.remove(call.name, force=call.flag("force"), volumes=call.flag("v"))
    return empty_response(204)


@routes.get("/containers/{name}/top", query={"ps_args": str}, answer=TopResult, errors=(404, 409), looks=True)
async def top(call: Call) -> web.StreamResponse:
    """The container's processes."""
    return json_response(await call.api.engine.containers.top(call.name, call.text("ps_args", "-ef")))


@routes.post("/containers/{name}/rename", query={"name*": str}, status=204, errors=(404, 409))
async def rename(call: Call) -> web.StreamResponse:
    """Give it another name."""
    name = call.text("name")
    if not name:
        raise InvalidArgument("Neither old nor new names may be empty")
    await call.api.engine.containers.rename(call.name, name)
    return empty_response(204)


@routes.post(
    "/containers/{name}/update",
    body=ContainerUpdateRequest,
    answer=ContainerUpdateResponse,
    errors=(404, 409),
)
async def update(call: Call) -> web.StreamResponse:
    """Change limits and restart policy."""
    request = await call.body(ContainerUpdateRequest)
    return json_response(await call.api.engine.containers.update(call.name, request))


@routes.post("/containers/prune", query={"filters": PRUNE_FILTERS}, answer=PruneReport)
async def prune(call: Call) -> web.StreamResponse:
    """Remove what does not run."""
    return json_response(await call.api.engine.containers.prune(call.filters(PRUNE_FILTERS)))
