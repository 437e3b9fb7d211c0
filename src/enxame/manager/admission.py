"""Who may become a node, and stay one: join tokens, certificates, and the list of nodes in the store."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from enxame.errors import EnxameError, InvalidArgument, Unavailable, rpc_error
from enxame.manager.leadership import LeaderLocator
from enxame.manager.nodes import no_trouble
from enxame.manager.signer import Signer
from enxame.model.cluster import Cluster, ClusterSecrets, JoinTokens, PeerNode
from enxame.model.node import Node, NodeDescription, NodeSpec, NodeStatus
from enxame.security import ca
from enxame.security.ids import id_of
from enxame.security.tokens import same_token
from enxame.store.interface import Tx, View
from enxame.store.store import Store
from enxame.transport.identity import Caller, Identity
from enxame.transport.methods import (
    CA_ISSUE,
    CA_RENEW,
    CA_ROOT,
    IssueRequest,
    NodeCertificate,
    Nothing,
    RenewRequest,
    RootCertificate,
)
from enxame.transport.peer import Peer, Served

#: In what a node hears that the swarm does not have any more; swarmkit's words.
REMOVED: Final = "was removed from swarm"
AVAILABILITIES: Final = ("active", "pause", "drain")


class Admission:
    """``joined`` is told the id of every new node; ``own`` is this manager's identity, which external signers want;
    ``own_trouble``: why it cannot have other managers beside it.

    Only the manager that leads lets nodes in, and knows who was removed: the others pass requests on.
    """

    def __init__(
        self,
        store: Store,
        leadership: LeaderLocator,
        *,
        wall: Callable[[], datetime],
        joined: Callable[[str], None],
        own: Callable[[], Identity | None] = lambda: None,
        own_trouble: Callable[[], Awaitable[str]] = no_trouble,
    ) -> None:
        self._store = store
        self._leadership = leadership
        self._signer = Signer(store, wall=wall, own=own)
        self._joined = joined
        self._own_trouble = own_trouble

    def serve(self, served: Served) -> None:
        """Add the methods."""
        served.call(CA_ROOT, self._root)
        served.call(CA_ISSUE, self._issue)
        served.call(CA_RENEW, self._renew)

    def check(self, caller: Caller) -> Caller:
        """Whether a node with a good certificate is (still) one of this swarm; as whom it may call. A certificate of a
        manager is worth a worker's when the node is none any more.

        Raises:
            PermissionDenied: it is not, in Swarm's words.
        """
        cluster, _ = self._cluster()
        if caller.cluster_id != cluster.id:
            raise rpc_error(
                "PermissionDenied",
                f"Permission denied: remote certificate not part of organization: {cluster.id}",
            )
        node = self._store.view.get(Node, caller.node_id)
        if node is None and self._leadership.is_leader:
            raise was_removed(caller.node_id)
        # A manager that only follows may not have heard of a new node yet; all it does for it is to name the leader.
        if node is None or node.spec.role != "manager":
            return dataclasses.replace(caller, role="worker")
        return caller

    async def certify(self, node_id: str, role: str, signing_request: str, addresses: Sequence[str] = ()) -> str:
        """See :meth:`Signer.certify`."""
        return await self._signer.certify(node_id, role, signing_request, addresses)

    async def _root(self, _peer: Peer, _request: Nothing) -> RootCertificate:
        secrets = self._cluster()[1]
        return RootCertificate(root=secrets.ca_cert, incarnation=secrets.incarnation)

    async def _issue(self, peer: Peer, request: IssueRequest) -> NodeCertificate:
        cluster, _ = self._cluster()
        role = _role(request.token, cluster.join_tokens or JoinTokens())
        if not self._leadership.is_leader:
            return await self._pass_on(peer, request)
        if role == "manager" and request.manager_trouble:
            raise Unavailable(f"this node cannot become a manager: {request.manager_trouble}")
        if role == "manager" and (trouble := await self._own_trouble()):
            raise Unavailable(f"the swarm cannot have another manager: its leader says: {trouble}")
        seen_from = request.seen_from if request.seen_from and peer.role == "manager" else peer.address
        availability = request.availability.lower() or "active"
        if availability not in AVAILABILITIES:
            raise InvalidArgument(f'invalid Availability: "{request.availability}"')
        # A node that missed the answer asks again with the same key: it is the same node.
        node_id = id_of(ca.key_in_request(request.signing_request))
        known = self._store.view.get(Node, node_id)
        role = known.spec.role if known is not None else role
        certificate = await self.certify(
            node_id, role, request.signing_request, _addresses(role, request.addr, seen_from)
        )
        node = known or Node(
            id=node_id,
            spec=NodeSpec(role=role, availability=availability),
            description=NodeDescription(tls_info=cluster.tls_info),
            status=NodeStatus(state="unknown", addr=_host(request.addr) or seen_from),
        )
        if known is None and await self._store.update(lambda tx: _add(tx, node)):
            self._joined(node_id)
        return self._answer(node, certificate)

    async def _renew(self, peer: Peer, request: RenewRequest) -> NodeCertificate:
        node = self._store.view.get(Node, peer.node_id)
        if node is None:
            raise was_removed(peer.node_id)
        addresses = _addresses(node.spec.role, request.addr, node.status.addr)
        return self._answer(node, await self.certify(node.id, node.spec.role, request.signing_request, addresses))

    async def _pass_on(self, peer: Peer, request: IssueRequest) -> NodeCertificate:
        link = await self._leadership.link()
        return await link.call(CA_ISSUE, replace(request, seen_from=peer.address))

    def _answer(self, node: Node, certificate: str) -> NodeCertificate:
        cluster, secrets = self._cluster()
        return NodeCertificate(
            node_id=node.id,
            cluster_id=cluster.id,
            role=node.spec.role,
            certificate=certificate,
            root=secrets.ca_cert,
            next_root=secrets.rotation.ca_cert if secrets.rotation is not None else "",
            managers=[manager.addr for manager in managers_of(self._store.view)],
        )

    def _cluster(self) -> tuple[Cluster, ClusterSecrets]:
        cluster = next(iter(self._store.view.all(Cluster)), None)
        if cluster is None or cluster.internal is None:
            raise Unavailable("this manager has no swarm")
        return cluster, cluster.internal


def managers_of(view: View) -> list[PeerNode]:
    """The swarm's managers and where they listen."""
    managers = [
        PeerNode(node_id=node.id, addr=node.manager_status.addr)
        for node in view.all(Node)
        if node.manager_status is not None
    ]
    return sorted(managers, key=lambda manager: manager.node_id)


def was_removed(node_id: str) -> EnxameError:
    """What a node hears that the swarm does not have any more."""
    return rpc_error("PermissionDenied", f"Permission denied: node {node_id} {REMOVED}")


def _add(tx: Tx, node: Node) -> bool:
    missing = tx.get(Node, node.id) is None
    if missing:
        tx.create(node)
    return missing


def _addresses(role: str, addr: str, seen_from: str) -> list[str]:
    """The IP addresses that a certificate is good for: other managers' etcd members call a manager's there."""
    if role != "manager":
        return []
    return list(dict.fromkeys(address for address in (_host(addr), seen_from) if address))


def _host(address: str) -> str:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return str(ipaddress.ip_address(host)) if host else ""
    except ValueError:
        return ""


def _role(token: str, tokens: JoinTokens) -> str:
    # Both are compared, always: the time taken says nothing.
    worker, manager = same_token(token, tokens.worker), same_token(token, tokens.manager)
    if not worker and not manager:
        raise rpc_error("InvalidArgument", "A valid join token is necessary to join this cluster")
    return "worker" if worker else "manager"
