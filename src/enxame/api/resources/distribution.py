"""``/distribution``: what a registry knows of an image, asked on the client's behalf."""

from __future__ import annotations

from aiohttp import web

from enxame.api.call import Call
from enxame.api.connection import cancelled_on_disconnect
from enxame.api.registry_auth import registry_auth
from enxame.api.responses import json_response
from enxame.api.routing import Routes
from enxame.model.image import DistributionInspect

routes = Routes()


@routes.get("/distribution/{name}/json", headers=("X-Registry-Auth",), answer=DistributionInspect, errors=(401, 404))
async def inspect_distribution(call: Call) -> web.StreamResponse:
    """Digest and platforms of an image in its registry."""
    with cancelled_on_disconnect(call.request):
        return json_response(await call.api.engine.images.registries.distribution(call.name, registry_auth(call)))
