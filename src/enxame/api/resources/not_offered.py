"""What Docker's API has and this daemon has not yet: a clear 501 instead of a puzzling 404."""

from __future__ import annotations

from aiohttp import web

from enxame.api.call import Call
from enxame.api.responses import json_response
from enxame.api.routing import Routes
from enxame.model.container import Empty

routes = Routes()

for _method, _path, _what in (
    ("POST", "/build/cancel", "building with BuildKit"),
    ("GET", "/images/search", "searching for images"),
    ("GET", "/images/{name}/attestations", "listing an image's attestations"),
    ("GET", "/plugins/privileges", "installing plugins"),
    ("POST", "/plugins/pull", "installing plugins"),
    ("POST", "/plugins/create", "installing plugins"),
    ("GET", "/plugins/{name}/json", "inspecting plugins"),
    ("DELETE", "/plugins/{name}", "removing plugins"),
    ("POST", "/plugins/{name}/enable", "enabling plugins"),
    ("POST", "/plugins/{name}/disable", "disabling plugins"),
    ("POST", "/plugins/{name}/upgrade", "upgrading plugins"),
    ("POST", "/plugins/{name}/push", "pushing plugins"),
    ("POST", "/plugins/{name}/set", "configuring plugins"),
    ("POST", "/session", "building with BuildKit"),
    ("POST", "/grpc", "building with BuildKit"),
):
    routes.not_supported(_method, _path, _what)


@routes.get("/plugins", query={"filters": ()}, answer=list[Empty], looks=True)
async def list_plugins(_call: Call) -> web.StreamResponse:
    """No plugins are installed."""
    return json_response([])
