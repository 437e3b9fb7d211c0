"""A swarm goes on with one manager: from a backup on this machine, or from what a survivor has.

Whatever other managers there were, they are none any more, and the swarm's incarnation is another one: workers follow
the managers of the highest incarnation they know, so that a manager that was given up can come back without harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from enxame.backup.form import FILE, Backup, Damaged
from enxame.errors import EnxameError
from enxame.membership import addresses, certificate_files, node_files
from enxame.membership.addresses import Interface, host_of
from enxame.membership.founding import STATE_DATABASE, unlock_key_of
from enxame.membership.sealed_state import sealed_state
from enxame.membership.state_file import NodeState
from enxame.membership.state_keys import StateKeys
from enxame.model.backup import RestoreRequest
from enxame.model.cluster import Cluster, ClusterSecrets
from enxame.model.node import ManagerStatus, Node
from enxame.store import pointer as pointers
from enxame.store.backend import Record
from enxame.store.interface import Tx
from enxame.store.kinds import KINDS
from enxame.store.sqlite import SqliteBackend, write_database
from enxame.store.store import Store

__all__ = ["NOT_RECOVERED", "REVISION_GAP", "go_on_alone", "moved_to", "place_of", "restore", "take_over"]

#: Restored objects get versions beyond all that the lost managers may have given after the backup: a client's version
#: of that time is refused rather than taken for another one.
REVISION_GAP: Final = 10_000_000
NOT_RECOVERED: Final = "the swarm was recovered without this manager"


def place_of(state: NodeState, wanted: RestoreRequest, default: str, interfaces: Sequence[Interface]) -> NodeState:
    """The node at its place on this machine: as wanted, else as it was, where this machine has the address, else as a
    new manager would be.

    Raises:
        InvalidArgument: an address that does not do, or several to choose from.
    """
    here = {address for interface in interfaces for address in interface.addresses}
    listen = addresses.listen_address(wanted.listen_addr or _kept_listen(state, here), interfaces)
    kept = state.advertise_addr if _is_kept(state, here) else ""
    advertise = addresses.advertise_address(wanted.advertise_addr or kept, default, listen, interfaces)
    data_path = wanted.data_path_addr or (state.data_path_addr if state.data_path_addr in here else "")
    return replace(
        state,
        listen_addr=str(listen),
        advertise_addr=str(advertise),
        data_path_addr=addresses.data_path_address(data_path, interfaces),
        interface=addresses.interface_of(advertise.host, interfaces),
    )


def moved_to(state: NodeState, interfaces: Sequence[Interface]) -> NodeState | None:
    """Where the node is now, when its interface has another address than the one that it tells others; None when there
    is nothing to change. An address that was never the machine's own is left alone, and so is one whose interface has
    none now: it may come up yet.

    Raises:
        InvalidArgument: the interface has several to choose from.
    """
    here = {address for interface in interfaces for address in interface.addresses}
    same = next((interface for interface in interfaces if interface.name == state.interface), None)
    if same is None or host_of(state.advertise_addr) in here or not (same.of_family(4) or same.of_family(6)):
        return None
    port = state.advertise_addr.rpartition(":")[2]
    return place_of(state, RestoreRequest(advertise_addr=f"{same.name}:{port}"), "", interfaces)


async def restore(
    backup: Backup, directory: Path, state: NodeState, *, keys: StateKeys, wall: Callable[[], datetime]
) -> NodeState:
    """Write the state of a backup into an empty ``directory``, with the node at the place that ``state`` says. ``keys``
    become those of the state: locked, if its managers lock themselves.

    Raises:
        Damaged: the backup's objects cannot be read.
        OSError: the disk refused.
    """
    head = backup.head
    cluster = _cluster_of(backup)
    await asyncio.to_thread(keys.create, unlock_key=unlock_key_of(cluster))
    records = (
        Record(item.kind, item.id, item.revision, keys.ring.seal(item.kind, item.id, item.data))
        for item in backup.items
        if item.kind != FILE
    )
    database = directory / STATE_DATABASE
    await asyncio.to_thread(write_database, database, head.revision + REVISION_GAP, records)
    secrets = cluster.internal or ClusterSecrets()
    if not secrets.ca_key and (own := node_files.identity_of(backup.items)) is not None:
        # Somebody else signs the swarm's certificates: until then the old one has to do.
        await asyncio.to_thread(certificate_files.write, directory, own, keys.passphrase)
    try:
        after = await take_over(directory, state, keys=keys, wall=wall)
    except EnxameError as error:
        raise Damaged(f"the backup cannot be used: {error.message}") from error
    return replace(after, cluster_id=head.cluster_id, role="manager", managers=[])


async def take_over(directory: Path, state: NodeState, *, keys: StateKeys, wall: Callable[[], datetime]) -> NodeState:
    """Make the manager whose state is in ``directory``, in SQLite, the only one, at the place that ``state`` says.
    Nothing else may use the state meanwhile.

    Raises:
        EnxameError: the state is damaged, or in use.
    """
    backend = SqliteBackend(directory / pointers.read(directory).place)
    store = Store(await sealed_state(backend, keys, make_keys=True), wall=wall)
    try:
        await store.start()
        former = _manager_addr(store.view.get(Node, state.node_id))
        incarnation = await store.update(lambda tx: go_on_alone(tx, state, wall()))
    finally:
        await store.close()
    return replace(state, incarnation=incarnation, former=former if former != state.advertise_addr else "")


def go_on_alone(tx: Tx, state: NodeState, now: datetime) -> int:
    """Make the node the only manager, at its place; returns the swarm's new incarnation.

    Raises:
        EnxameError: the state has no swarm, or not this node.
    """
    cluster = next(iter(tx.all(Cluster)), None)
    if cluster is None or cluster.internal is None or tx.get(Node, state.node_id) is None:
        raise EnxameError("it does not hold a swarm with this manager")
    # The clock alone tells two recoveries of one state apart; counting on keeps the order when it was set back.
    incarnation = max(cluster.internal.incarnation, state.incarnation) + 1
    incarnation = max(incarnation, int(now.timestamp()))
    known = _manager_addr(tx.get(Node, state.node_id))
    secrets = replace(cluster.internal, incarnation=incarnation, moved=known != state.advertise_addr)
    tx.update(replace(cluster, internal=secrets))
    for node in tx.all(Node):
        if node.id == state.node_id:
            status = ManagerStatus(leader=True, reachability="reachable", addr=state.advertise_addr)
            own = replace(node.status, addr=host_of(state.advertise_addr))
            spec = replace(node.spec, role="manager")
            tx.update(replace(node, spec=spec, status=own, manager_status=status))
        elif node.spec.role == "manager" or node.manager_status is not None:
            # It stays one that is to be a manager: when it comes back it asks for a part in what there is now.
            down = replace(node.status, state="down", message=NOT_RECOVERED)
            tx.update(replace(node, status=down, manager_status=None))
    return incarnation


def _manager_addr(node: Node | None) -> str:
    """Where it was known to listen as a manager; empty: nowhere."""
    return node.manager_status.addr if node is not None and node.manager_status is not None else ""


def _cluster_of(backup: Backup) -> Cluster:
    name = KINDS[Cluster].name
    try:
        found = [KINDS[Cluster].decode(item.data) for item in backup.items if item.kind == name]
    except msgspec.DecodeError as error:
        raise Damaged(f"the backup cannot be used: its swarm cannot be read: {error}") from error
    if not found or not isinstance(found[0], Cluster):
        raise Damaged("the backup cannot be used: it holds no swarm")
    return found[0]


def _kept_listen(state: NodeState, here: set[str]) -> str:
    host, _, port = state.listen_addr.rpartition(":")
    host = host.strip("[]")
    if host in here or host in ("0.0.0.0", "::", ""):
        return state.listen_addr
    return f"{addresses.DEFAULT_LISTEN}:{port}"


def _is_kept(state: NodeState, here: set[str]) -> bool:
    """Whether others reach the machine where they did: it has the address, or somebody else passes it on."""
    host = host_of(state.advertise_addr)
    return bool(host) and (host in here or not state.interface)
