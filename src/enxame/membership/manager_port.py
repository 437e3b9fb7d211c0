"""A manager's side of the network: its port, its certificate, and what serves the nodes that come."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import datetime

from msgspec.structs import replace

from enxame.control.now import Now
from enxame.errors import EnxameError
from enxame.manager.admission import Admission
from enxame.manager.dispatcher import Dispatcher
from enxame.manager.failure_detector import FailureDetector
from enxame.manager.node_sessions import NodeSessions
from enxame.membership.certificate_files import seconds_to_renewal
from enxame.membership.certificate_keeper import CertificateKeeper
from enxame.membership.own_identity import OwnIdentity
from enxame.membership.state_file import NodeState
from enxame.model.cluster import Cluster, ClusterSecrets, TLSInfo
from enxame.model.node import Node
from enxame.store.store import Store
from enxame.store.watch import WatchLagged
from enxame.transport.listener import Listener
from enxame.transport.methods import NodeCertificate
from enxame.transport.peer import Served

log = logging.getLogger(__name__)


class ManagerPort:
    """Listens from :meth:`start` to :meth:`close`; :meth:`run` must be running meanwhile."""

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        state: NodeState,
        own: OwnIdentity,
        *,
        new_id: Callable[[], str],
        rng: Callable[[], float],
        now: Callable[[], Now],
        wall: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._state = state
        self._own = own
        self._wall = wall
        self._detector = FailureDetector(store, state.node_id, lambda: now().mono, self._cut)
        self._dispatcher = dispatcher
        self._admission = Admission(
            store, new_id=new_id, wall=wall, joined=self._detector.expect, own=lambda: own.identity
        )
        self.sessions = NodeSessions(store, dispatcher, self._detector)
        served = Served()
        self._admission.serve(served)
        self.sessions.serve(served)
        self._listener = Listener(served, self._admission.check)
        self._certificate = CertificateKeeper(
            own,
            obtain=self._certify_itself,
            renewed=lambda: None,
            tell=self._tell,
            spread=lambda: 0.0,
            rng=rng,
            wall=wall,
        )

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            EnxameError: the address cannot be had, in Swarm's words.
        """
        own = await self._own.load()
        if own is None or seconds_to_renewal(own, self._wall(), 1.0) <= 0:
            await self._certificate.renew()
        await self._believe()
        await self._detector.start()
        host, _, port = self._state.listen_addr.rpartition(":")
        try:
            await self._listener.listen(host.strip("[]"), int(port), await self._own.server_context())
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            raise EnxameError(
                f"could not start the manager: listen tcp {self._state.listen_addr}: bind: {reason}"
            ) from error

    async def run(self) -> None:
        """Watch the nodes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._detector.run(), name="failure detector")
            group.create_task(self.sessions.follow(self._listener), name="node sessions")
            group.create_task(self._certificate.run(), name="certificate renewal")
            group.create_task(self._follow_roots(), name="root certificates")

    async def close(self) -> None:
        """Stop listening and cut all links."""
        await self._listener.close()

    def _cut(self, node_id: str) -> None:
        self._listener.cut(node_id)

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
        """Trust the roots of the swarm's state."""
        secrets = self._secrets()
        await self._certificate.trust(secrets.ca_cert, _next_root(secrets))

    async def _certify_itself(self, request: str) -> NodeCertificate:
        certificate = await self._admission.certify(self._state.node_id, "manager", request)
        secrets = self._secrets()
        return NodeCertificate(certificate=certificate, root=secrets.ca_cert, next_root=_next_root(secrets))

    async def _tell(self, trusts: TLSInfo) -> None:
        node = self._store.view.get(Node, self._state.node_id)
        if node is not None:
            await self._dispatcher.describe(node.id, replace(node.description, tls_info=trusts))

    def _secrets(self) -> ClusterSecrets:
        cluster = next(iter(self._store.view.all(Cluster)), None)
        if cluster is None or cluster.internal is None:
            raise EnxameError("the swarm's state holds no certificate authority")
        return cluster.internal


def _next_root(secrets: ClusterSecrets) -> str:
    return secrets.rotation.ca_cert if secrets.rotation is not None else ""
