"""``/volumes``."""

from __future__ import annotations

from aiohttp import web

from enxame.api.call import Call
from enxame.api.responses import empty_response, json_response
from enxame.api.routing import Routes
from enxame.model.volume import Volume, VolumeCreateRequest, VolumeListResponse, VolumesPruneReport

routes = Routes()
_FILTERS = ("dangling", "driver", "label", "name")
_PRUNE_FILTERS = ("all", "label", "label!")


@routes.get("/volumes", query={"filters": _FILTERS}, answer=VolumeListResponse, looks=True)
async def list_volumes(call: Call) -> web.StreamResponse:
    """All volumes that match."""
    return json_response(call.api.engine.volumes.list(call.filters(_FILTERS)))


@routes.post("/volumes/create", body=VolumeCreateRequest, answer=Volume, status=201, errors=(404, 409))
async def create_volume(call: Call) -> web.StreamResponse:
    """Make a volume, or find the one of that name."""
    return json_response(await call.api.engine.volumes.create(await call.body(VolumeCreateRequest)), status=201)


@routes.get("/volumes/{name}", answer=Volume, errors=(404,), looks=True)
async def inspect_volume(call: Call) -> web.StreamResponse:
    """One volume."""
    return json_response(call.api.engine.volumes.inspect(call.name))


@routes.delete("/volumes/{name}", query={"force": bool}, status=204, errors=(404, 409))
async def remove_volume(call: Call) -> web.StreamResponse:
    """Remove a volume that no container uses."""
    await call.api.engine.volumes.remove(call.name, force=call.flag("force"))
    return empty_response(204)


@routes.post("/volumes/prune", query={"filters": _PRUNE_FILTERS}, answer=VolumesPruneReport)
async def prune_volumes(call: Call) -> web.StreamResponse:
    """Remove what nobody uses."""
    filters = call.filters(_PRUNE_FILTERS)
    # Before API 1.42 volumes with a name went, too.
    everything = call.version < (1, 42) or filters.flag("all")
    return json_response(await call.api.engine.volumes.prune(filters, everything=everything))


routes.not_supported("PUT", "/volumes/{name}", "updating a cluster volume")
