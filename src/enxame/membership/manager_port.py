"""A manager's side of the network: its port, its certificate, and what serves the nodes that come."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from enxame.control.now import Now
from enxame.errors import EnxameError
from enxame.manager.admission import Admission
from enxame.manager.dispatcher import Dispatcher
from enxame.manager.failure_detector import FailureDetector
from enxame.manager.node_sessions import NodeSessions
from enxame.membership import certificate_files
from enxame.membership.certificate_files import seconds_to_renewal
from enxame.membership.state_file import NodeState
from enxame.model.cluster import Cluster
from enxame.security import ca
from enxame.store.store import Store
from enxame.transport import identity
from enxame.transport.identity import Identity
from enxame.transport.listener import Listener
from enxame.transport.peer import Served

log = logging.getLogger(__name__)

#: Longest time between two looks at the clock: seconds. The wall clock may be set.
LOOK_AT_CLOCK: Final = 3600.0
RENEWAL_RETRY: Final = 60.0


class ManagerPort:
    """Listens from :meth:`start` to :meth:`close`; :meth:`run` must be running meanwhile."""

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        state: NodeState,
        *,
        directory: Path,
        new_id: Callable[[], str],
        rng: Callable[[], float],
        now: Callable[[], Now],
        wall: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._state = state
        self._directory = directory
        self._rng = rng
        self._wall = wall
        self._detector = FailureDetector(store, state.node_id, lambda: now().mono, self._cut)
        self._admission = Admission(store, new_id=new_id, wall=wall, joined=self._detector.expect)
        self.sessions = NodeSessions(store, dispatcher, self._detector)
        served = Served()
        self._admission.serve(served)
        self.sessions.serve(served)
        self._listener = Listener(served, self._admission.check)
        self._context: ssl.SSLContext | None = None

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            EnxameError: the address cannot be had, in Swarm's words.
        """
        own = await asyncio.to_thread(certificate_files.read, self._directory)
        if own is None or seconds_to_renewal(own, self._wall(), 1.0) <= 0:
            own = await self._certify_itself()
        await self._detector.start()
        self._context = await asyncio.to_thread(identity.server_context, own)
        host, _, port = self._state.listen_addr.rpartition(":")
        try:
            await self._listener.listen(host.strip("[]"), int(port), self._context)
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
            group.create_task(self._renew_in_time(), name="certificate renewal")

    async def close(self) -> None:
        """Stop listening and cut all links."""
        await self._listener.close()

    def _cut(self, node_id: str) -> None:
        self._listener.cut(node_id)

    async def _renew_in_time(self) -> None:
        random = self._rng()
        while True:
            own = await asyncio.to_thread(certificate_files.read, self._directory)
            remaining = seconds_to_renewal(own, self._wall(), random) if own is not None else 0.0
            if remaining > 0:
                await asyncio.sleep(min(remaining, LOOK_AT_CLOCK))
                continue
            try:
                renewed = await self._certify_itself()
                if self._context is not None:
                    await asyncio.to_thread(identity.show, self._context, renewed)
            except (EnxameError, OSError) as error:
                log.error("this manager's certificate could not be renewed; trying again: %s", error)
                await asyncio.sleep(RENEWAL_RETRY)
            else:
                log.info("this manager's certificate was renewed")
                random = self._rng()

    async def _certify_itself(self) -> Identity:
        cluster = next(iter(self._store.view.all(Cluster)), None)
        if cluster is None or cluster.internal is None:
            raise EnxameError("the swarm's state holds no certificate authority")
        root = cluster.internal.ca_cert
        key, request = await asyncio.to_thread(ca.new_signing_request)
        certificate = await self._admission.certify(self._state.node_id, "manager", request)
        own = Identity(certificate, key, root)
        await asyncio.to_thread(certificate_files.write, self._directory, own)
        return own
