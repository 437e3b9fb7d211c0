"""``/networks``: those of this machine and, on a manager, those of the swarm, as one list.

A manager that does not lead asks the leader for the swarm's part. A leader that is asked by another manager
(``call.asked_by``) leaves its own machine's part out.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
from aiohttp import web
from msgspec.structs import replace

from enxame.api.call import Call
from enxame.api.responses import empty_response, json_response
from enxame.api.routing import Routes
from enxame.engine.networks.moments import parse_moment
from enxame.errors import Conflict, EnxameError, InvalidArgument, NotFound, PermissionDenied, Unavailable
from enxame.model.container import EndpointSettings
from enxame.model.filters import Filters
from enxame.model.network import (
    NetworkConnectRequest,
    NetworkCreateRequest,
    NetworkDisconnectRequest,
    NetworkResource,
)

if TYPE_CHECKING:
    from enxame.manager.manager import Manager

from enxame.api.answers import NetworkCreated
from enxame.model.network import NetworksPruneReport

routes = Routes()
_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
_PRUNE_FILTERS = ("label", "label!", "until")


def _manager(call: Call) -> Manager | None:
    try:
        return call.api.membership.manager
    except Unavailable:
        return None


@routes.get("/networks", query={"filters": _FILTERS}, answer=list[NetworkResource], looks=True, swarm_part=True)
async def list_networks(call: Call) -> web.StreamResponse:
    """All networks that match."""
    return json_response([replace(network, containers={}) for network in await _all(call, call.filters(_FILTERS))])


async def _swarm_networks(call: Call, filters: Filters) -> list[NetworkResource]:
    """Those of the swarm; none on a node that is no manager."""
    manager = _manager(call)
    if manager is None:
        return []
    asked = await call.forwarder.ask(call, f"/networks?{_query(filters)}", list[NetworkResource])
    return list(manager.networks.list(filters)) if asked is None else asked


async def _all(call: Call, filters: Filters) -> list[NetworkResource]:
    """The swarm's networks first, then this machine's; this machine's side of a swarm network is not told twice, nor
    is that of a removed one (until its last container here ends) whose name is another's now (on a worker, a newer).
    """
    swarm = await _swarm_networks(call, filters)
    if call.asked_by:
        return swarm
    known = {network.id for network in swarm}
    here = [network for network in call.api.engine.networks.list(filters) if network.id not in known]
    newest = {network.name: network.id for network in sorted(here, key=lambda item: item.created)}
    newest |= {network.name: network.id for network in swarm}
    return swarm + [network for network in here if network.scope != "swarm" or newest[network.name] == network.id]


@routes.get(
    "/networks/{name}",
    query={"scope": str, "verbose": bool},
    answer=NetworkResource,
    errors=(404,),
    looks=True,
    swarm_part=True,
)
async def inspect_network(call: Call) -> web.StreamResponse:
    """One network, with this machine's containers on it."""
    return json_response(await _find(call, call.name, scope=call.text("scope"), verbose=call.flag("verbose")))


async def _find(call: Call, ref: str, *, scope: str = "", verbose: bool = False) -> NetworkResource:
    """By full id, then by name, then by the beginning of the id."""
    if not ref:
        raise InvalidArgument("network name cannot be empty")
    manager = _manager(call)
    if scope == "swarm" and manager is not None:
        # Also the swarm's entries of the networks that every node has (bridge, host): services refer to those.
        asked = await call.forwarder.ask(call, f"/networks/{quote(ref, safe='')}?scope=swarm", NetworkResource)
        found = manager.networks.get(ref) if asked is None else asked
        return _with_containers(call, replace(found, scope="swarm"), verbose=verbose)
    networks = await _all(call, Filters({"scope": frozenset({scope})}) if scope else Filters())
    for matches, how in (
        ([network for network in networks if network.id == ref], "ID"),
        ([network for network in networks if network.name == ref], "name"),
        ([network for network in networks if network.id.startswith(ref)], "ID prefix"),
    ):
        if len(matches) > 1:
            raise InvalidArgument(f"network {ref} is ambiguous ({len(matches)} matches found based on {how})")
        if matches:
            return _with_containers(call, matches[0], verbose=verbose)
    raise NotFound(f"network {ref} not found")


def _with_containers(call: Call, network: NetworkResource, *, verbose: bool) -> NetworkResource:
    """This machine's side knows the containers; the swarm's side everything else."""
    if call.asked_by:
        return network
    try:
        here = call.api.engine.networks.inspect(network.id, verbose=verbose)
    except NotFound:
        return network if network.containers is not None else replace(network, containers={})
    if network.scope != "swarm" or network.driver != "overlay":
        return here  # of a network that nodes make, each has its own addresses and options
    return replace(network, containers=here.containers or {}, peers=here.peers, services=here.services)


async def _makes_swarm_network(call: Call) -> bool:
    request = await call.body(NetworkCreateRequest)
    if not _is_swarm_network(request):
        return False
    # Those that every node has are refused in words of their own.
    here = () if call.asked_by else call.api.engine.networks.list(Filters({"type": frozenset({"custom"})}))
    if any(network.name == request.name and network.scope == "local" for network in here):
        raise Conflict(f"network with name {request.name} already exists")
    return True


def _is_swarm_network(request: NetworkCreateRequest) -> bool:
    """A configuration for others to be made from is a machine's own, whatever is said of its driver."""
    return not request.config_only and (request.scope == "swarm" or request.driver == "overlay" or request.ingress)


@routes.post(
    "/networks/create",
    body=NetworkCreateRequest,
    answer=NetworkCreated,
    status=201,
    errors=(403, 404, 409),
    leader=_makes_swarm_network,
)
async def create_network(call: Call) -> web.StreamResponse:
    """Make a network: an overlay is the swarm's, everything else this machine's."""
    request = await call.body(NetworkCreateRequest)
    if request.scope not in ("", "local", "swarm"):
        raise InvalidArgument(f"invalid network scope: {request.scope}")
    if request.driver == "overlay" and request.scope == "local" and not request.config_only:
        raise PermissionDenied("cannot downgrade network scope for overlay networks")
    if request.ingress and request.driver != "overlay":
        raise PermissionDenied("Ingress network can only be global scope network")
    # Networks that the swarm knows are under the same roof: a name stands for one.
    if any(
        network.name == request.name and network.id != call.object_id
        for network in await _swarm_networks(call, Filters({"name": frozenset({request.name})}))
    ):
        raise Conflict(f"network with name {request.name} already exists")
    if _is_swarm_network(request):
        if _manager(call) is None and call.api.membership.info().local_node_state == "active":
            raise PermissionDenied(
                "Cannot create a multi-host network from a worker node. Please create the network from a manager node."
            )
        if request.driver != "overlay" and call.api.membership.info().local_node_state == "inactive":
            raise PermissionDenied("cannot create a swarm scoped network when swarm is not active")
        await _check_encryption(call, request)
        network_id = await call.api.membership.manager.networks.create(request, object_id=call.object_id)
    else:
        network_id = await call.api.engine.networks.create(request)
    return json_response(NetworkCreated(id=network_id), status=201)


async def _check_encryption(call: Call, request: NetworkCreateRequest) -> None:
    """Better no network than one whose tasks no node takes, or packets in the clear."""
    if request.options.get("encrypted", "false").lower() not in ("false", "0"):
        reason = await call.api.engine.networks.encryption_problem()
        if reason:
            raise InvalidArgument(f"network {request.name} cannot be encrypted: {reason}")


@routes.post("/networks/{name}/connect", body=NetworkConnectRequest, errors=(403, 404))
async def connect_container(call: Call) -> web.StreamResponse:
    """Put a container of this machine on a network."""
    request = await call.body(NetworkConnectRequest)
    try:
        network = await _find(call, call.name)
    except NotFound:
        # A worker sees a network of the swarm only once one of its containers is on it.
        ref = call.name
    else:
        ref = network.name if network.scope == "swarm" else network.id
        if network.scope == "swarm" and not network.attachable:
            raise PermissionDenied(
                f"Could not attach to network {network.name}: rpc error: code = PermissionDenied desc = network "
                f"{network.name} not manually attachable"
            )
    settings = request.endpoint_config or EndpointSettings()
    await call.api.engine.containers.connect(request.container, ref, settings)
    return empty_response(200)


@routes.post("/networks/{name}/disconnect", body=NetworkDisconnectRequest, errors=(403, 404))
async def disconnect_container(call: Call) -> web.StreamResponse:
    """Take a container of this machine off a network."""
    request = await call.body(NetworkDisconnectRequest)
    network = await _find(call, call.name)
    here = call.api.engine.networks.known(network.id)
    # By name where this machine has no part in it: so a container that has not run yet knows it.
    ref = network.id if here is not None else network.name
    await call.api.engine.containers.disconnect(request.container, ref)
    return empty_response(200)


async def _names_swarm_network(call: Call) -> bool:
    return (await _find(call, call.name)).scope == "swarm"


@routes.delete("/networks/{name}", status=204, errors=(403, 404), leader=_names_swarm_network)
async def remove_network(call: Call) -> web.StreamResponse:
    """Remove a network that nobody uses."""
    network = await _find(call, call.name)
    if network.scope == "swarm":
        await call.api.membership.manager.networks.remove(network.id)
    else:
        await call.api.engine.networks.remove(network.id)
    return empty_response(204)


@routes.post("/networks/prune", query={"filters": _PRUNE_FILTERS}, answer=NetworksPruneReport, swarm_part=True)
async def prune_networks(call: Call) -> web.StreamResponse:
    """Remove this machine's networks that nobody uses, and on a manager the swarm's, too."""
    filters = call.filters(_PRUNE_FILTERS)
    removed = await _prune_swarm(call, filters)
    if not call.asked_by:
        removed = [*((await call.api.engine.networks.prune(filters)).networks_deleted or []), *removed]
    return json_response(NetworksPruneReport(networks_deleted=removed))


async def _prune_swarm(call: Call, filters: Filters) -> list[str]:
    manager = _manager(call)
    if manager is None:
        return []
    asked = await call.forwarder.ask(call, f"/networks/prune?{_query(filters)}", NetworksPruneReport, method="POST")
    if asked is not None or not call.api.membership.leadership.is_leader:
        return [] if asked is None else asked.networks_deleted or []
    moments = [parse_moment(text, datetime.now(UTC)) for text in filters.get("until")]
    removed = []
    for network in manager.networks.list(Filters({"dangling": frozenset({"true"})})):
        wanted = (
            not network.ingress
            and all(network.created <= moment for moment in moments)
            and filters.labels_match(network.labels)
            and ("label!" not in filters or not filters.labels_match(network.labels, "label!"))
        )
        if wanted:
            # Somebody may have begun to use it, or have removed it, meanwhile.
            with suppress(EnxameError):
                await manager.networks.remove(network.id)
                removed.append(network.name)
    return removed


def _query(filters: Filters) -> str:
    text = msgspec.json.encode({name: sorted(values) for name, values in filters.values.items()}).decode()
    return f"filters={quote(text)}"
