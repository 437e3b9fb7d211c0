"""A manager's side of the network: its port, its certificate, and what serves the nodes that come."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from datetime import datetime

from enxame.errors import EnxameError
from enxame.manager.admission import Admission
from enxame.manager.leader_link import LeaderLink
from enxame.manager.session_front import SessionFront
from enxame.membership.addresses import host_of
from enxame.membership.certificate_files import seconds_to_renewal
from enxame.membership.certificate_keeper import CertificateKeeper
from enxame.membership.manager_admission import ManagerAdmission
from enxame.membership.member_plan import manager_trouble
from enxame.membership.member_trust import MemberTrust
from enxame.membership.own_identity import OwnIdentity
from enxame.membership.self_description import Shown
from enxame.membership.state_file import NodeState
from enxame.membership.swarm_state import SwarmState
from enxame.model.cluster import Cluster, ClusterSecrets
from enxame.model.node import Node
from enxame.security import ca
from enxame.store.interface import Action
from enxame.store.watch import WatchLagged
from enxame.transport.identity import Identity
from enxame.transport.listener import Listener
from enxame.transport.methods import NodeCertificate
from enxame.transport.peer import Served

log = logging.getLogger(__name__)


class ManagerPort:
    """Listens from :meth:`start` to :meth:`close`; :meth:`run` must be running meanwhile. The swarm's state is open.

    ``joined`` is told of new nodes, ``tell`` lets the swarm know whom this node trusts.
    """

    def __init__(
        self,
        swarm: SwarmState,
        state: NodeState,
        own: OwnIdentity,
        leadership: LeaderLink,
        *,
        joined: Callable[[str], None],
        tell: Callable[[Shown], Awaitable[None]],
        rng: Callable[[], float],
        wall: Callable[[], datetime],
    ) -> None:
        self._swarm = swarm
        self._store = swarm.store
        self._state = state
        self._own = own
        self._wall = wall
        self._revoked: frozenset[str] = frozenset()
        #: Held while the managers change.
        self.changing = asyncio.Lock()
        self.front = SessionFront(leadership)
        self._admission = Admission(
            self._store,
            leadership,
            wall=wall,
            joined=joined,
            own=lambda: own.identity,
            own_trouble=manager_trouble,
        )
        #: What this manager serves to other nodes.
        self.served = Served()
        self._admission.serve(self.served)
        self.front.serve(self.served)
        ManagerAdmission(swarm, leadership, self.changing).serve(self.served)
        self.listener = Listener(self.served, self._admission.check)
        self.certificate = CertificateKeeper(
            own,
            obtain=self._certify_itself,
            renewed=lambda: None,
            tell=tell,
            spread=lambda: 0.0,
            rng=rng,
            wall=wall,
        )

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            EnxameError: the address cannot be had, in Swarm's words.
        """
        own = self._own.identity
        if own is None or seconds_to_renewal(own, self._wall(), 1.0) <= 0 or not self._names_this_manager(own):
            await self.certificate.renew()
        await self._believe()
        host, _, port = self._state.listen_addr.rpartition(":")
        try:
            await self.listener.listen(host.strip("[]"), int(port), await self._own.server_context())
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            raise EnxameError(
                f"could not start the manager: listen tcp {self._state.listen_addr}: bind: {reason}"
            ) from error

    async def run(self) -> None:
        """Look after the links and the certificate until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.certificate.run(), name="certificate renewal")
            group.create_task(self._follow_roots(), name="root certificates")
            group.create_task(self._cut_links(), name="links of nodes")
            group.create_task(MemberTrust(self._own, self._swarm, self._state.node_id).run(), name="etcd's trust")

    async def close(self) -> None:
        """Stop listening and cut all links."""
        await self.listener.close()

    async def _cut_links(self) -> None:
        """Cut those of nodes that were removed, or are no managers any more: their certificates say what they were."""
        while True:
            async with self._store.watch(Node) as watch:
                try:
                    while True:
                        for event in await watch.next():
                            node, before = event.object, event.old
                            assert isinstance(node, Node)
                            demoted = (
                                isinstance(before, Node)
                                and before.spec.role == "manager"
                                and node.spec.role != "manager"
                            )
                            if event.action is Action.DELETE or demoted:
                                self.listener.cut(node.id)
                except WatchLagged:
                    continue

    async def _follow_roots(self) -> None:
        while True:
            async with self._store.watch(Cluster) as watch:
                try:
                    while True:
                        await self._believe()
                        await watch.next()
                except WatchLagged:
                    continue

    async def _believe(self) -> None:
        """Trust the roots of the swarm's state, and no certificate that was revoked."""
        secrets = self._secrets()
        await self.certificate.trust(secrets.ca_cert, _next_root(secrets))
        revoked = frozenset(secrets.revoked_certificates)
        if revoked != self._revoked:
            await self._own.revoke(sorted(int(serial, 16) for serial in revoked))
            self._revoked = revoked

    def _names_this_manager(self, own: Identity) -> bool:
        """Whether the certificate is a manager's, and good for where the others' etcd members find this one's."""
        return ca.node_identity(own.certificate).role == "manager" and host_of(
            self._state.advertise_addr
        ) in ca.certified_addresses(own.certificate)

    async def _certify_itself(self, request: str) -> NodeCertificate:
        addresses = [host_of(self._state.advertise_addr)]
        certificate = await self._admission.certify(self._state.node_id, "manager", request, addresses)
        secrets = self._secrets()
        return NodeCertificate(certificate=certificate, root=secrets.ca_cert, next_root=_next_root(secrets))

    def _secrets(self) -> ClusterSecrets:
        cluster = next(iter(self._store.view.all(Cluster)), None)
        if cluster is None or cluster.internal is None:
            raise EnxameError("the swarm's state holds no certificate authority")
        return cluster.internal


def _next_root(secrets: ClusterSecrets) -> str:
    return secrets.rotation.ca_cert if secrets.rotation is not None else ""
