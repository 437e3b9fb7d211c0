"""What Docker's API has and this daemon has not yet: a clear 501 instead of a puzzling 404; plugins, of which there are
none.
"""

from __future__ import annotations

from aiohttp import web

from enxame.api.call import Call
from enxame.api.responses import json_response
from enxame.api.routing import Handler, Routes
from enxame.errors import NotFound
from enxame.model.container import Empty

routes = Routes()

for _method, _path, _what in (
    ("POST", "/build/cancel", "building with BuildKit"),
    ("GET", "/images/search", "searching for images"),
    ("GET", "/images/{name}/attestations", "listing an image's attestations"),
    ("GET", "/plugins/privileges", "installing plugins"),
    ("POST", "/plugins/pull", "installing plugins"),
    ("POST", "/plugins/create", "installing plugins"),
    ("POST", "/session", "building with BuildKit"),
    ("POST", "/grpc", "building with BuildKit"),
):
    routes.not_supported(_method, _path, _what)


@routes.get("/plugins", query={"filters": ()}, answer=list[Empty], looks=True)
async def list_plugins(_call: Call) -> web.StreamResponse:
    """No plugins are installed."""
    return json_response([])


def _no_such_plugin(action: str) -> Handler:
    async def refuse(call: Call) -> web.StreamResponse:
        """No plugins are installed: none has this name."""
        raise NotFound(f'plugin "{call.name}" not found')

    refuse.__name__ = f"{action}_plugin"
    return refuse


routes.get("/plugins/{name}/json", answer=Empty, errors=(404,), looks=True)(_no_such_plugin("inspect"))
routes.delete("/plugins/{name}", errors=(404,))(_no_such_plugin("remove"))
for _action in ("enable", "disable", "upgrade", "push", "set"):
    routes.post(f"/plugins/{{name}}/{_action}", errors=(404,))(_no_such_plugin(_action))
