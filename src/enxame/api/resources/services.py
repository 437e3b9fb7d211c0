"""``/services``."""

from __future__ import annotations

from aiohttp import web
from msgspec.structs import replace

from enxame.api.call import Call
from enxame.api.responses import empty_response, json_response
from enxame.api.routing import Routes
from enxame.errors import InvalidArgument, NotFound, PermissionDenied
from enxame.model.filters import Filters
from enxame.model.registry_auth import decode_auth
from enxame.model.service import EndpointSpec, Service, ServiceCreateResponse, ServiceSpec, ServiceUpdateResponse

routes = Routes()
#: Every node has its own of these; services may attach to them.
_PREDEFINED = ("bridge", "host")
_FILTERS = ("id", "label", "mode", "name", "runtime")


def _public(service: Service) -> Service:
    """As clients see it: always with its kind of endpoint, without which proxies do not look at its networks."""
    spec, endpoint = service.spec, service.spec.endpoint_spec or EndpointSpec()
    if not endpoint.mode:
        spec = replace(spec, endpoint_spec=replace(endpoint, mode="vip"))
    return replace(service, internal=None, spec=spec)


async def _about_the_swarm(call: Call) -> bool:
    """True: it is the leader's. Networks of the machine that is asked are none of the swarm's.

    Raises:
        PermissionDenied: the service is to attach to such a network.
    """
    if call.asked_by:
        return True
    spec = await call.body(ServiceSpec)
    wanted = {attachment.target for attachment in spec.task_template.networks or spec.networks}
    for network in call.api.engine.networks.list(Filters()) if wanted else ():
        if network.scope == "local" and wanted & {network.id, network.name} and network.name not in _PREDEFINED:
            _check_known(call, network.name)
    return True


def _check_known(call: Call, name: str) -> None:
    """Raises as :func:`_about_the_swarm`, unless the swarm has a network of that name, too."""
    try:
        call.api.membership.manager.networks.get(name)
    except NotFound:
        if name == "none":
            raise NotFound(
                "could not find the corresponding predefined swarm network: network none not found"
            ) from None
        raise PermissionDenied(
            f"The network {name} cannot be used with services. Only networks scoped to the swarm can be used, such as "
            "those created with the overlay driver."
        ) from None


def _encoded_auth(call: Call) -> str:
    """The header as it came (it is kept for the nodes that pull), once it has proved readable."""
    text = call.request.headers.get("X-Registry-Auth", "")
    return text if decode_auth(text) is not None else ""


@routes.get(
    "/services",
    query={"filters": _FILTERS, "status": bool},
    answer=list[Service],
    errors=(503,),
    looks=True,
    leader=True,
)
async def list_services(call: Call) -> web.StreamResponse:
    """All services that match; with ``status`` their counts of tasks."""
    services = call.api.membership.manager.services.list(call.filters(_FILTERS), status=call.flag("status"))
    return json_response([_public(service) for service in services])


@routes.post(
    "/services/create",
    headers=("X-Registry-Auth",),
    body=ServiceSpec,
    answer=ServiceCreateResponse,
    status=201,
    errors=(403, 404, 409, 503),
    leader=_about_the_swarm,
)
async def create_service(call: Call) -> web.StreamResponse:
    """Make a service."""
    manager = call.api.membership.manager
    spec = await call.body(ServiceSpec)
    made = await manager.services.create(spec, registry_auth=_encoded_auth(call), object_id=call.object_id)
    return json_response(made, status=201)


@routes.get(
    "/services/{name}", query={"insertDefaults": bool}, answer=Service, errors=(404, 503), looks=True, leader=True
)
async def inspect_service(call: Call) -> web.StreamResponse:
    """One service; with ``insertDefaults`` the values that its spec leaves open."""
    services = call.api.membership.manager.services
    return json_response(_public(services.get(call.name, insert_defaults=call.flag("insertDefaults"))))


@routes.delete("/services/{name}", errors=(404, 503), leader=True)
async def remove_service(call: Call) -> web.StreamResponse:
    """Remove a service; its tasks follow."""
    await call.api.membership.manager.services.remove(call.name)
    return empty_response()


@routes.post(
    "/services/{name}/update",
    query={"version*": int, "registryAuthFrom": str, "rollback": str},
    headers=("X-Registry-Auth",),
    body=ServiceSpec,
    answer=ServiceUpdateResponse,
    errors=(403, 404, 409, 503),
    leader=_about_the_swarm,
)
async def update_service(call: Call) -> web.StreamResponse:
    """Replace a service's spec, or go back to the one before."""
    version = call.object_version("service")
    auth_from = call.text("registryAuthFrom")
    if auth_from not in ("", "spec", "previous-spec"):
        raise InvalidArgument("unsupported registryAuthFrom value")
    rollback = call.text("rollback")
    manager = call.api.membership.manager
    spec = await call.body(ServiceSpec)
    answer = await manager.services.update(
        call.name,
        version,
        spec,
        registry_auth=_encoded_auth(call),
        registry_auth_from=auth_from or "spec",
        rollback=rollback,
    )
    return json_response(answer)
