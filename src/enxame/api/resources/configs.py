"""``/configs``."""

from __future__ import annotations

from aiohttp import web

from enxame.api.answers import IdResponse
from enxame.api.call import Call
from enxame.api.responses import empty_response, json_response
from enxame.api.routing import Routes
from enxame.model.secret import Config, ConfigSpec

routes = Routes()
_FILTERS = ("id", "label", "name", "names")


@routes.get("/configs", query={"filters": _FILTERS}, answer=list[Config], errors=(503,), looks=True, leader=True)
async def list_configs(call: Call) -> web.StreamResponse:
    """All configs that match."""
    configs = call.api.membership.manager.configs.list(call.filters(_FILTERS))
    return json_response(configs)


@routes.post("/configs/create", body=ConfigSpec, answer=IdResponse, status=201, errors=(409, 503), leader=True)
async def create_config(call: Call) -> web.StreamResponse:
    """Store a config."""
    spec = await call.body(ConfigSpec)
    configs = call.api.membership.manager.configs
    return json_response(IdResponse(id=await configs.create(spec, object_id=call.object_id)), status=201)


@routes.get("/configs/{name}", answer=Config, errors=(404, 503), looks=True, leader=True)
async def inspect_config(call: Call) -> web.StreamResponse:
    """One config."""
    return json_response(call.api.membership.manager.configs.get(call.name))


@routes.delete("/configs/{name}", status=204, errors=(404, 503), leader=True)
async def remove_config(call: Call) -> web.StreamResponse:
    """Remove a config that no service uses."""
    await call.api.membership.manager.configs.remove(call.name)
    return empty_response(204)


@routes.post("/configs/{name}/update", query={"version*": int}, body=ConfigSpec, errors=(404, 503), leader=True)
async def update_config(call: Call) -> web.StreamResponse:
    """Change a config's labels."""
    version = call.object_version("config")
    spec = await call.body(ConfigSpec)
    await call.api.membership.manager.configs.update(call.name, version, spec)
    return empty_response()
