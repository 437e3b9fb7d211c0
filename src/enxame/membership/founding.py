"""The birth of a swarm: its first objects and this node's place in it, durable before anybody hears of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from enxame.errors import InvalidArgument
from enxame.manager.admission import AVAILABILITIES
from enxame.manager.networks import ingress_network
from enxame.manager.swarm import new_cluster
from enxame.membership.state_file import NodeState
from enxame.membership.state_keys import StateKeys
from enxame.model.cluster import Cluster, Driver, InitRequest
from enxame.model.network import Network, NetworkSpec
from enxame.model.node import ManagerStatus, Node, NodeDescription, NodeSpec, NodeStatus
from enxame.security import ca
from enxame.store.interface import Tx
from enxame.store.sealed import SealedBackend
from enxame.store.sqlite import SqliteBackend
from enxame.store.store import Store

STATE_DATABASE: Final = "state.db"
#: Networks that every node has; services may be attached to them by name.
PREDEFINED_NETWORKS: Final = ("bridge", "host")


class Founder:
    """``describe`` says what this machine offers; ``keys`` are those of this node's swarm."""

    def __init__(
        self,
        *,
        new_id: Callable[[], str],
        wall: Callable[[], datetime],
        describe: Callable[[], NodeDescription],
        keys: StateKeys,
    ) -> None:
        self._new_id = new_id
        self._wall = wall
        self._describe = describe
        self._keys = keys

    async def found(
        self, request: InitRequest, listen: str, advertise: str, data_path: str, directory: Path
    ) -> NodeState:
        """Write the first state of a swarm into ``directory`` and return this node's.

        Raises:
            InvalidArgument: a setting that does not do.
        """
        availability = availability_of(request.availability)
        now = self._wall()
        root = await asyncio.to_thread(ca.create_root, now)
        cluster = new_cluster(self._new_id(), request, root)
        node_id = self._new_id()
        host = advertise.rpartition(":")[0].strip("[]")
        description = replace(self._describe(), tls_info=cluster.tls_info, data_path_addr=data_path or host)
        node = Node(
            id=node_id,
            spec=NodeSpec(role="manager", availability=availability),
            description=description,
            status=NodeStatus(state="ready", addr=host),
            manager_status=ManagerStatus(leader=True, reachability="reachable", addr=advertise),
        )

        def create(tx: Tx) -> None:
            tx.create(cluster)
            tx.create(node)
            tx.create(ingress_network(self._new_id()))
            for name in PREDEFINED_NETWORKS:
                spec = NetworkSpec(name=name, driver_configuration=Driver(name=name), scope="local")
                tx.create(Network(id=self._new_id(), spec=spec))

        await asyncio.to_thread(self._keys.create, unlock_key=unlock_key_of(cluster))
        store = Store(SealedBackend(SqliteBackend(directory / STATE_DATABASE), self._keys.ring), wall=self._wall)
        await store.start()
        try:
            await store.update(create)
        finally:
            await store.close()
        return NodeState(
            node_id=node_id,
            cluster_id=cluster.id,
            listen_addr=listen,
            advertise_addr=advertise,
            data_path_addr=data_path,
        )


def availability_of(text: str) -> str:
    """``--availability``, active by default. Raises InvalidArgument."""
    availability = text.lower() or "active"
    if availability not in AVAILABILITIES:
        raise InvalidArgument(f'invalid Availability: "{text}"')
    return availability


def unlock_key_of(cluster: Cluster) -> str:
    """What locks this swarm's managers; empty while autolock is off."""
    locked = cluster.spec.encryption_config.auto_lock_managers and cluster.internal is not None
    return cluster.internal.unlock_key if locked and cluster.internal is not None else ""


def public(cluster: Cluster) -> Cluster:
    """The cluster as everybody may see it: without tokens and keys."""
    return replace(cluster, join_tokens=None, internal=None)
