"""A new manager gets its part in the managers' agreement: its etcd member, and with it the swarm's state."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from enxame.errors import EnxameError, Unavailable
from enxame.membership.member_plan import MemberPlan
from enxame.membership.state_keys import KeyMaterial, StateKeys
from enxame.membership.swarm_state import NewMember
from enxame.store import pointer as pointers
from enxame.transport import dialer
from enxame.transport.identity import joining_context
from enxame.transport.methods import (
    CA_RENEW,
    CA_ROOT,
    MANAGER_JOIN,
    MANAGER_READY,
    MANAGER_STANDING,
    ManagerJoin,
    ManagerJoinNews,
    NodeCertificate,
    Nothing,
    RenewRequest,
)
from enxame.transport.peer import Peer

if TYPE_CHECKING:
    from enxame.store.etcd_node import EtcdNode

log = logging.getLogger(__name__)

#: Longest wait for the leader's word, and for the member to start: seconds.
TURN_DEADLINE: Final = 40.0
START_DEADLINE: Final = 20.0
MOST_HOPS: Final = 4
#: Longest wait for the others' word on the swarm's incarnation: seconds.
ASK_DEADLINE: Final = 2.0


class ManagerJoining:
    """``managers`` are the addresses of those there are; ``context`` shows this node's certificate, a manager's;
    ``keys`` are to become those of the swarm's state; ``roots`` are the certificates (PEM) that this node believes.
    """

    def __init__(
        self,
        directory: Path,
        plan: MemberPlan,
        *,
        keys: StateKeys,
        managers: Callable[[], Sequence[str]],
        context: Callable[[], ssl.SSLContext],
        roots: Callable[[], str],
    ) -> None:
        self._directory = directory
        self._plan = plan
        self._keys = keys
        self._managers = managers
        self._context = context
        self.under_way = False
        self._roots = roots

    async def join(self, new_member: NewMember) -> EtcdNode:
        """Ask the managers in turn; returns the running member, a voter. Raises EnxameError: not now."""
        self.under_way = True
        try:
            return await self._ask_in_turn(new_member)
        finally:
            self.under_way = False

    async def _ask_in_turn(self, new_member: NewMember) -> EtcdNode:
        last: EnxameError = Unavailable("no manager of the swarm is known")
        for address in self._others():
            for _ in range(MOST_HOPS):
                try:
                    joined = await self._join_at(address, new_member)
                except EnxameError as error:
                    log.info("the manager at %s did not let this one in: %s", address, error)
                    last = error
                    break
                if not isinstance(joined, str):
                    return joined
                address = joined  # noqa: PLW2901  # the one that leads
        raise last

    async def is_superseded(self, incarnation: int) -> bool:
        """Whether another manager says that the swarm was recovered since this incarnation: what this one has is
        worth nothing any more. No answer in time: False.
        """

        async def ask(address: str) -> bool:
            try:
                # Without the own certificate: the recovered swarm may not know this manager.
                async with dialer.link(address, joining_context(self._roots())) as peer:
                    return (await peer.call(CA_ROOT, Nothing())).incarnation > incarnation
            except EnxameError:
                return False

        asked = [asyncio.create_task(ask(address)) for address in self._others()]
        try:
            for answer in asyncio.as_completed(asked, timeout=ASK_DEADLINE):
                if await answer:
                    return True
        except TimeoutError:
            pass
        finally:
            for task in asked:
                task.cancel()
            if asked:
                await asyncio.wait(asked)
        return False

    async def lost_its_part(self) -> bool:
        """Whether the manager that leads says that this one is none of its fellows (any more). No answer: False."""
        return await self.standing() is False

    async def standing(self) -> bool | None:
        """Whether this manager is one of its fellows, says the one that leads; None: no such manager is in reach."""
        for address in self._others():
            try:
                async with dialer.link(address, self._context()) as peer:
                    return (await peer.call(MANAGER_STANDING, Nothing())).member
            except EnxameError:
                continue
        return None

    async def certificate(self, signing_request: str) -> NodeCertificate:
        """A certificate for this manager at its address of now. Raises EnxameError: not now."""
        last: EnxameError = Unavailable("no manager of the swarm is known")
        request = RenewRequest(signing_request=signing_request, addr=self._plan.state.advertise_addr)
        for address in self._others():
            try:
                async with dialer.link(address, self._context()) as peer:
                    return await peer.call(CA_RENEW, request)
            except EnxameError as error:
                last = error
        raise last

    def _others(self) -> list[str]:
        return [address for address in self._managers() if address != self._plan.state.advertise_addr]

    async def _join_at(self, address: str, new_member: NewMember) -> EtcdNode | str:
        """The running member, or where the leader is."""
        async with dialer.link(address, self._context()) as peer:
            request = ManagerJoin(peer_url=self._plan.peer_url, addr=self._plan.state.advertise_addr)
            async with aclosing(peer.stream(MANAGER_JOIN, request)) as news:
                first = await _next(news)
                if first.redirect:
                    return first.redirect
                node = await self._start(first, peer, new_member)
                try:
                    await _next(news)
                    await node.voting()
                except BaseException:
                    # Asked again, the leader says whether it has a vote.
                    await node.stop()
                    raise
                return node

    async def _start(self, told: ManagerJoinNews, peer: Peer, new_member: NewMember) -> EtcdNode:
        if told.state_keys:
            material = msgspec.msgpack.decode(told.state_keys, type=KeyMaterial)
            await asyncio.to_thread(self._keys.create, material)
        target = pointers.read(self._directory).next("etcd")
        await asyncio.to_thread(shutil.rmtree, self._directory / target.place, ignore_errors=True)
        node = new_member(target, told.members)
        await node.start(timeout=START_DEADLINE)
        try:
            # Before it has a vote: a voter that forgot where its data is would cost the others their quorum.
            await asyncio.to_thread(pointers.write, self._directory, target)
            await peer.call(MANAGER_READY, Nothing())
        except BaseException:
            await node.stop()
            raise
        return node


async def _next(news: AsyncGenerator[ManagerJoinNews]) -> ManagerJoinNews:
    try:
        async with asyncio.timeout(TURN_DEADLINE):
            return await anext(news)
    except TimeoutError:
        raise Unavailable("the manager that leads did not answer in time") from None
    except StopAsyncIteration:
        raise Unavailable("the manager that leads broke off") from None
