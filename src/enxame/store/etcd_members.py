"""The members of the etcd cluster: which changes are safe, and making them.

Safe is what leaves a quorum among those that can be reached. Adding goes by way of a learner, which has no vote until
it has caught up; promoting it needs no check, as it can be reached then: a quorum of one more is at most one more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final, TypeVar

from enxame.errors import Unavailable, rpc_error
from enxame.store.etcd import NoLeader
from enxame.store.etcd_client import EtcdClient
from enxame.store.etcd_messages import EtcdRefused, EtcdUnavailable, Member

__all__ = ["EtcdMembers", "check_removal", "initial_cluster", "keeps_quorum", "quorum", "successor"]

R = TypeVar("R")

_CALL_TIMEOUT: Final = 5.0
#: etcd's words for "not now".
_PATIENCE: Final = (
    "unhealthy cluster",
    "not enough started members",
    "in sync with leader",
    "too many learner members",
    "leader changed",
    "no leader",
    "not leader",
)


def quorum(voters: int) -> int:
    """How many of so many voters must agree."""
    return voters // 2 + 1


def keeps_quorum(voters: Collection[str], reachable: Collection[str], removed: str) -> bool:
    """Whether the voters that stay have a quorum among those of them that can be reached."""
    stay = [name for name in voters if name != removed]
    if not stay:
        return False
    return sum(name in reachable for name in stay) >= quorum(len(stay))


def check_removal(members: Iterable[Member], reachable: Collection[str], name: str) -> None:
    """Whether the member may be removed; learners always may. ``reachable`` are names (node ids).

    Raises:
        InvalidArgument: in Swarm's words, when the quorum would be lost.
    """
    voters = [member.name for member in members if not member.learner]
    if name in voters and not keeps_quorum(voters, reachable, name):
        raise rpc_error(
            "FailedPrecondition", "can't remove member from the raft: this would result in a loss of quorum"
        )


def successor(members: Iterable[Member], reachable: Collection[str], leaving: int) -> Member | None:
    """Whom to hand leadership to before ``leaving`` goes: the reachable voter with the smallest id."""
    fit = [m for m in members if not m.learner and m.id != leaving and m.name in reachable]
    return min(fit, key=lambda member: member.id, default=None)


def initial_cluster(members: Iterable[Member], name: str, peer_url: str) -> dict[str, str]:
    """What a joining member has to be told: everybody's name and address. Only its own may still be without a name."""
    found: dict[str, str] = {}
    for member in members:
        for url in member.peer_urls:
            if url == peer_url:
                found[name] = url
            elif member.name:
                found[member.name] = url
    return found


class EtcdMembers:
    """Changes of membership through one member's client. Each takes at most ``timeout`` seconds."""

    def __init__(self, client: EtcdClient) -> None:
        self._client = client

    async def list(self) -> list[Member]:
        """All members. Raises NoLeader without a quorum."""
        return await self._patiently(lambda: self._client.members(timeout=_CALL_TIMEOUT), _CALL_TIMEOUT)

    async def add(self, name: str, peer_url: str, *, timeout: float = 20.0) -> dict[str, str]:
        """Add a learner; returns what it is to be started with (``initial_cluster``). Twice is once.

        A member with this name at another address is its former self and must be removed first.
        """
        for member in await self.list():
            if peer_url in member.peer_urls and member.name in ("", name):
                return initial_cluster(await self.list(), name, peer_url)
            if name and member.name == name:
                raise Unavailable(f"node {name} is a member already, at {', '.join(member.peer_urls)}")
        try:
            _, members = await self._patiently(
                lambda: self._client.member_add(peer_url, learner=True, timeout=_CALL_TIMEOUT), timeout
            )
        except EtcdRefused as error:
            if "Peer URLs already exists" not in error.message:
                raise
            members = await self.list()
        return initial_cluster(members, name, peer_url)

    async def promote(self, name: str, *, timeout: float = 20.0) -> None:
        """Let a learner vote as soon as it has caught up. A voter stays one."""

        async def promote() -> None:
            member = await self._named(name)
            if member is None:
                raise EtcdRefused(f"node {name} is not in sync with leader: it has not started yet")
            if not member.learner:
                return
            try:
                await self._client.member_promote(member.id, timeout=_CALL_TIMEOUT)
            except EtcdRefused as error:
                # Done by an earlier call whose answer was lost.
                if "can only promote a learner" not in error.message or "in sync" in error.message:
                    raise

        await self._patiently(promote, timeout)

    async def remove(self, name: str, *, reachable: Collection[str], timeout: float = 20.0) -> bool:
        """Remove a member; False when there was none.

        Raises:
            InvalidArgument: the quorum would be lost.
        """
        members = await self.list()
        member = next((m for m in members if m.name == name), None)
        if member is None:
            return False
        check_removal(members, reachable, name)
        return await self.remove_id(member.id, timeout=timeout)

    async def remove_id(self, member: int, *, timeout: float = 20.0) -> bool:
        """Remove without a check: learners that never started, and what the caller has checked."""
        try:
            await self._patiently(lambda: self._client.member_remove(member, timeout=_CALL_TIMEOUT), timeout)
        except EtcdRefused as error:
            if "member not found" in error.message:
                return False
            raise
        return True

    async def move(self, name: str, peer_url: str) -> None:
        """A member is found at another address now."""
        member = await self._named(name)
        if member is None:
            raise Unavailable(f"node {name} is no member of the swarm's etcd")
        if member.peer_urls != (peer_url,):
            update = self._client.member_update
            await self._patiently(lambda: update(member.id, peer_url, timeout=_CALL_TIMEOUT), 20.0)

    async def _named(self, name: str) -> Member | None:
        return next((m for m in await self.list() if m.name == name), None)

    async def _patiently(self, call: Callable[[], Awaitable[R]], timeout: float) -> R:
        """Repeat what is refused only for the moment, or not answered."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        pause = 0.02
        while True:
            try:
                return await call()
            except EtcdRefused as error:
                late = loop.time() + pause > deadline
                if late or not any(words in error.message for words in _PATIENCE):
                    raise
            except EtcdUnavailable as error:
                if loop.time() + pause > deadline:
                    raise NoLeader from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.25)
