"""What runs on a worker: its agent, a session with a manager, and the renewal of its certificate."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from enxame.errors import EnxameError, Unavailable
from enxame.manager.admission import REMOVED
from enxame.manager.leadership import LeaderLocator
from enxame.manager.manager import Manager
from enxame.membership.addresses import host_of
from enxame.membership.certificate_files import has_expired
from enxame.membership.certificate_keeper import CertificateKeeper
from enxame.membership.member_plan import manager_trouble
from enxame.membership.own_identity import OwnIdentity
from enxame.membership.own_node import OwnMachine, OwnNode
from enxame.membership.self_description import Shown
from enxame.membership.state_file import NodeState
from enxame.membership.swarm_parts import WORKER, NodeRemoved
from enxame.model.cluster import PeerNode, SwarmInfo
from enxame.security import ca
from enxame.security.tokens import JoinToken
from enxame.transport.methods import (
    CA_RENEW,
    NODE_DESCRIBE,
    NODE_HEARTBEAT,
    Beat,
    NodeCertificate,
    NodeNews,
    RenewRequest,
    SessionNews,
)
from enxame.transport.peer import Peer

log = logging.getLogger(__name__)

CERTIFICATES_EXPIRED: Final = "Swarm certificates have expired. To replace them, leave the swarm and join again."
#: A manager that does not answer for so long is not there, as far as a user is concerned who says where it is: seconds.
PROBE_DEADLINE: Final = 1.5


class WorkerParts:
    """Built for one membership, started once, and ended by :meth:`stop` or :meth:`leave`. ``directory`` holds
    ``node.json``, which is kept up to date.
    """

    def __init__(
        self,
        state: NodeState,
        machine: OwnMachine,
        *,
        change_role: Callable[[str], None],
    ) -> None:
        self._machine = machine
        self._change_role = change_role
        self._manager_trouble = ""
        self._own = OwnIdentity(machine.directory)
        self._node = OwnNode(
            state,
            machine,
            self._own,
            shown=self._shown,
            heard=self._heard,
            manager_trouble=lambda: self._manager_trouble,
        )
        self._certificate = CertificateKeeper(
            self._own,
            obtain=self._ask_for_certificate,
            renewed=self._node.session.reconnect,
            tell=self._tell,
            spread=lambda: self._node.session.period,
            rng=machine.rng,
            wall=machine.wall,
        )
        self._managers: list[PeerNode] = [PeerNode(addr=address) for address in state.managers]
        self._ready = False

    @property
    def manager(self) -> Manager:
        """There is none: raises Unavailable with Swarm's text."""
        raise Unavailable(WORKER)

    @property
    def leadership(self) -> LeaderLocator:
        """Raises as :attr:`manager`."""
        raise Unavailable(WORKER)

    def info(self) -> SwarmInfo:
        """What ``GET /info`` says of the swarm."""
        state = "error" if self._node.error else "active" if self._ready else "pending"
        return SwarmInfo(
            node_id=self._node.state.node_id,
            node_addr=host_of(self._node.state.advertise_addr),
            local_node_state=state,
            error=self._node.error,
            remote_managers=self._managers,
        )

    async def start(self) -> None:
        """Take up this node's tasks, and begin to look for a manager."""
        await self._node.agent.start()
        own = await self._own.load()
        if own is None:
            raise EnxameError(f"this node's certificate is missing below {self._machine.directory}")
        if has_expired(own, self._machine.wall()):
            self._node.error = CERTIFICATES_EXPIRED
            log.error("%s", CERTIFICATES_EXPIRED)
            return
        self._node.keep_running(self._node.session.run(), "session")
        self._node.keep_running(self._look_for_etcd(), "etcd's version")
        self._node.keep_running(self._certificate.run(), "certificate renewal")

    async def settled(self) -> None:
        """Wait until a manager took this node. Raises EnxameError when it was refused."""
        await self._node.settled()

    async def in_touch(self) -> bool:
        """Whether a manager looks after this node now, asked of it."""
        peer = self._node.session.peer
        if peer is None:
            return False
        try:
            await peer.call(NODE_HEARTBEAT, Beat(), deadline=PROBE_DEADLINE)
        except EnxameError:
            return False
        return True

    def is_of(self, token: JoinToken) -> bool:
        """Whether a join token is of this node's swarm."""
        return self._own.is_of(token)

    async def look_at(self, addresses: Sequence[str]) -> None:
        """The swarm's managers may be found there; returns when one of them took this node up.

        Raises:
            NodeRemoved: they do not know it.
            EnxameError: it was refused for another reason.
        """
        self._node.ask_again()
        self._node.session.look_at(addresses)
        await self._node.answered()
        if REMOVED in self._node.error:
            raise NodeRemoved(self._node.error)
        await self.settled()

    def leave_warning(self) -> str:
        """There is none."""
        return ""

    async def stop(self) -> None:
        """End all of it; containers go on. The manager hears that this daemon will be back, unless the machine itself
        goes down.
        """
        await self._node.say_back_soon()
        await self._node.end_loops()
        await self._node.agent.stop()

    async def leave(self, patience: float) -> None:
        """Remove this node's tasks and networks, tell the manager, then end. Tasks may take so many seconds to stop."""
        try:
            await self._node.agent.withdraw_everything()
            await self._node.session.end_work()
            await self._node.agent.remove_everything(patience)
            await self._node.session.say_goodbye()
        finally:
            await self.stop()

    def _shown(self) -> Shown:
        return self._certificate.shown()

    async def _tell(self, shown: Shown) -> None:
        peer = await self._in_session()
        await peer.call(NODE_DESCRIBE, NodeNews(description=self._node.described(shown)))

    async def _heard(self, news: SessionNews, _address: str) -> None:
        self._node.error, self._ready = "", True
        await self._certificate.trust(news.root, news.next_root)
        self._managers = news.managers
        self._node.taken()
        known = replace(self._node.state, managers=self._node.session.managers, incarnation=news.incarnation)
        await self._node.remember(known)
        if news.spec.role == "manager":
            await self._become_manager()

    async def _look_for_etcd(self) -> None:
        """Find out whether this node could be a manager; nobody waits for that."""
        self._manager_trouble = await manager_trouble()

    async def _become_manager(self) -> None:
        await self._look_for_etcd()
        if self._manager_trouble:
            log.error("the swarm wants this node to be a manager: %s", self._manager_trouble)
            return
        await self._certificate.renew()
        own = self._own.identity
        if own is not None and ca.node_identity(own.certificate).role == "manager":
            self._change_role("manager")

    async def _ask_for_certificate(self, request: str) -> NodeCertificate:
        peer = await self._in_session()
        return await peer.call(CA_RENEW, RenewRequest(signing_request=request, addr=self._node.state.advertise_addr))

    async def _in_session(self) -> Peer:
        peer = self._node.session.peer
        if peer is None:
            await self._node.answered()
            peer = self._node.session.peer
        if peer is None:
            raise Unavailable("no manager is in reach")
        return peer
