"""``/secrets``. The payload goes in and never comes out."""

from __future__ import annotations

from aiohttp import web
from msgspec.structs import replace

from enxame.api.answers import IdResponse
from enxame.api.call import Call
from enxame.api.responses import empty_response, json_response
from enxame.api.routing import Routes
from enxame.model.secret import Secret, SecretSpec

routes = Routes()
_FILTERS = ("id", "label", "name", "names")


def _public(secret: Secret) -> Secret:
    return replace(secret, spec=replace(secret.spec, data=""))


@routes.get("/secrets", query={"filters": _FILTERS}, answer=list[Secret], errors=(503,), looks=True, leader=True)
async def list_secrets(call: Call) -> web.StreamResponse:
    """All secrets that match."""
    secrets = call.api.membership.manager.secrets.list(call.filters(_FILTERS))
    return json_response([_public(secret) for secret in secrets])


@routes.post("/secrets/create", body=SecretSpec, answer=IdResponse, status=201, errors=(409, 503), leader=True)
async def create_secret(call: Call) -> web.StreamResponse:
    """Store a secret."""
    spec = await call.body(SecretSpec)
    secrets = call.api.membership.manager.secrets
    return json_response(IdResponse(id=await secrets.create(spec, object_id=call.object_id)), status=201)


@routes.get("/secrets/{name}", answer=Secret, errors=(404, 503), looks=True, leader=True)
async def inspect_secret(call: Call) -> web.StreamResponse:
    """One secret, without its payload."""
    return json_response(_public(call.api.membership.manager.secrets.get(call.name)))


@routes.delete("/secrets/{name}", status=204, errors=(404, 503), leader=True)
async def remove_secret(call: Call) -> web.StreamResponse:
    """Remove a secret that no service uses."""
    await call.api.membership.manager.secrets.remove(call.name)
    return empty_response(204)


@routes.post("/secrets/{name}/update", query={"version*": int}, body=SecretSpec, errors=(404, 503), leader=True)
async def update_secret(call: Call) -> web.StreamResponse:
    """Change a secret's labels."""
    version = call.object_version("secret")
    spec = await call.body(SecretSpec)
    await call.api.membership.manager.secrets.update(call.name, version, spec)
    return empty_response()
