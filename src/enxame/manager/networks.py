"""Use cases around the swarm's networks. Subnets and VXLAN ids are the allocator's to give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from enxame.errors import InvalidArgument, PermissionDenied, Unimplemented, rpc_error
from enxame.manager import lookup, network_validation, network_view
from enxame.manager.matching import matches_head
from enxame.manager.service_references import needs_ingress
from enxame.model.attachment import Attachment
from enxame.model.cluster import Driver
from enxame.model.config_networks import check_config_from
from enxame.model.filters import Filters
from enxame.model.network import Network, NetworkCreateRequest, NetworkResource, NetworkSpec
from enxame.model.service import Service
from enxame.model.task import Task, TaskState
from enxame.store.interface import Tx, View
from enxame.store.store import Store

__all__ = ["NetworkControl", "ingress_network"]

INGRESS_NAME: Final = "ingress"
#: Scope of the networks that stand for one that every node has of its own.
LOCAL_SCOPE: Final = "local"


def ingress_network(network_id: str) -> Network:
    """The routing mesh's network, made with the swarm."""
    spec = NetworkSpec(
        name=INGRESS_NAME,
        driver_configuration=Driver(name="overlay"),
        ipv6_enabled=True,
        ingress=True,
        scope="swarm",
    )
    return Network(id=network_id, spec=spec)


class NetworkControl:
    """The swarm's part of ``/networks``."""

    def __init__(self, store: Store, new_id: Callable[[], str]) -> None:
        self._store = store
        self._new_id = new_id

    def list(self, filters: Filters) -> Sequence[NetworkResource]:
        """Networks that match ``id``, ``name``, ``label``, ``driver``, ``scope``, ``type``, ``dangling``. Those that
        every node has of its own (``host``, ``bridge``) are for each node to show.
        """
        types = filters.get("type")
        if not types <= {"custom", "builtin"}:
            raise InvalidArgument(f"invalid filter: 'type'='{min(types - {'custom', 'builtin'})}'")
        if types == {"builtin"}:
            return []
        view = self._store.view
        found = []
        for network in view.all(Network):
            if network.spec.scope == LOCAL_SCOPE or not matches_head(
                filters, network.id, network.spec.name, network.spec.labels
            ):
                continue
            shown = network_view.resource(network)
            if filters.get("driver") and shown.driver not in filters.get("driver"):
                continue
            if filters.get("scope") and shown.scope not in filters.get("scope"):
                continue
            if "dangling" in filters and filters.flag("dangling") == bool(_user(view, network)):
                continue
            found.append(shown)
        return found

    def get(self, ref: str) -> NetworkResource:
        """The network with this id, name or beginning of an id."""
        return network_view.resource(lookup.network(self._store.view, ref))

    async def create(self, request: NetworkCreateRequest, *, object_id: str = "") -> str:
        """Make a swarm network; returns its id. With an ``object_id`` it gets this one; when it is there already, this
        request has made it before.

        Raises:
            InvalidArgument, PermissionDenied, Unimplemented: out of rule, or not to be had.
            Conflict: the name is taken, or there is an ingress network already.
        """
        if not request.enable_ipv4:
            raise Unimplemented("networks without IPv4 are not supported")
        check_config_from(request)
        spec = network_view.spec_of_request(request)
        network_validation.check_spec(spec)
        network = Network(id=object_id or self._new_id(), spec=spec)

        def change(tx: Tx) -> None:
            if object_id and tx.get(Network, object_id) is not None:
                return
            network_validation.check_ingress(tx, spec)
            network_validation.check_overlaps(tx, spec)
            tx.create(network)

        await self._store.update(change)
        return network.id

    async def remove(self, ref: str) -> None:
        """Remove a network that no service and no task uses."""
        network_id = lookup.network(self._store.view, ref).id

        def change(tx: Tx) -> None:
            network = lookup.network(tx, network_id)
            if network.spec.scope == LOCAL_SCOPE:
                raise PermissionDenied(f"{network.spec.name} is a pre-defined network and cannot be removed")
            user = _user(tx, network)
            if user and network.spec.ingress:
                raise rpc_error("FailedPrecondition", f"ingress network cannot be removed because {user} depends on it")
            if user:
                raise rpc_error("FailedPrecondition", f"network {network_id} is in use by {user}")
            tx.delete(Network, network_id)

        await self._store.update(change)


def _user(view: View, network: Network) -> str:
    """Who uses the network: ``service <id>``, ``task <id>`` (a container of its own is one, too) or nobody (empty)."""
    if network.spec.ingress:
        services = [service for service in view.all(Service) if needs_ingress(service.spec.endpoint_spec)]
    else:
        services = view.find(Service, "network_id", network.id)
    if services:
        return f"service {services[0].id}"
    for task in view.find(Task, "network_id", network.id):
        if task.desired_state <= TaskState.RUNNING and task.status.state <= TaskState.RUNNING:
            return f"task {task.id}"
    for attachment in view.find(Attachment, "network_id", network.id):
        return f"task {attachment.id}"
    return ""
