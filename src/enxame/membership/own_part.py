"""This manager's part in the managers' agreement: whether it has one still, and how it gets another one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from enxame.errors import EnxameError
from enxame.manager.leader_link import LeaderLink
from enxame.membership.lead_or_follow import RESTART_DELAY
from enxame.membership.manager_joining import ManagerJoining
from enxame.membership.own_identity import OwnIdentity
from enxame.membership.swarm_state import SwarmState
from enxame.security import ca
from enxame.store import pointer as pointers
from enxame.transport.identity import Identity
from enxame.transport.methods import MANAGER_STANDING, Nothing

__all__ = ["ASK_EVERY", "OwnPart"]

log = logging.getLogger(__name__)

#: Between questions to the others whether this manager still has its part, while its member does not come up: seconds.
ASK_EVERY: Final = 5.0


class OwnPart:
    """``incarnation`` is that of the swarm's state as it is here; ``moved`` says whether this manager has another
    address than its member was made for.
    """

    def __init__(
        self,
        directory: Path,
        swarm: SwarmState,
        joining: ManagerJoining,
        own: OwnIdentity,
        *,
        incarnation: Callable[[], int],
        moved: Callable[[], bool],
    ) -> None:
        self._directory = directory
        self._swarm = swarm
        self._joining = joining
        self._own = own
        self._incarnation = incarnation
        self._moved = moved

    async def take_up(self, take_up: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Try ``take_up`` until it succeeds. A part that is lost is given up in between, for one that is asked for."""
        while True:
            if self._swarm.kind == "etcd" and self._moved():
                await self._move()
            # Two of three that come back together would be a majority of what was: they ask before they vote.
            if self._swarm.kind == "etcd" and await self.is_superseded():
                await self._forget()
            attempt = asyncio.create_task(take_up(), name="opening the state")
            try:
                while not attempt.done():
                    await asyncio.wait({attempt}, timeout=ASK_EVERY)
                    if not attempt.done() and await self._is_lost():
                        attempt.cancel()
                        await asyncio.wait({attempt})
            finally:
                attempt.cancel()
                await asyncio.wait({attempt})
            if not attempt.cancelled():
                error = attempt.exception()
                if error is None:
                    return
                log.warning("the swarm's state is not there yet: %s", error)
                if not isinstance(error, (EnxameError, OSError, TimeoutError)):
                    log.error("opening the state broke off", exc_info=error)
            if await self._is_lost():
                await self._forget()
            else:
                await asyncio.sleep(RESTART_DELAY)

    async def is_superseded(self) -> bool:
        """Whether others say that the swarm was recovered without this manager."""
        return await self._joining.is_superseded(self._incarnation())

    async def mind_recoveries(self, start_over: Callable[[], None]) -> None:
        """Give way to a swarm that was recovered without this manager, wherever it leads the former one."""
        while True:
            await asyncio.sleep(ASK_EVERY)
            alone = not self._swarm.leads or self._swarm.etcd is None
            if not alone and await self.is_superseded():
                start_over()

    async def given_up(self, leader: LeaderLink) -> None:
        """Wait until the others have taken this manager's member out: before, they may need its vote for that."""
        while True:
            try:
                link = await leader.link()
                if not (await link.call(MANAGER_STANDING, Nothing())).member:
                    return
            except EnxameError as error:
                log.debug("is this manager let go? %s", error)
            await asyncio.sleep(0.05)

    async def _move(self) -> None:
        """The others look for this manager's member at its former address. Once one that leads them is in reach, what
        the member has is not needed: it gives it up, and asks for another one with a certificate of the new address.
        """
        while not await self.is_superseded():
            if await self._joining.standing() is not None:
                try:
                    key, request = await asyncio.to_thread(ca.new_signing_request)
                    answer = await self._joining.certificate(request)
                    await self._own.replace(Identity(answer.certificate, key, answer.root, answer.next_root))
                    break
                except EnxameError as error:
                    log.warning("this manager gets no certificate for its new address: %s", error)
            await asyncio.sleep(RESTART_DELAY)
        await self._forget()

    async def _is_lost(self) -> bool:
        """Whether the others know no member of this manager's (any more), or have gone on without it."""
        if self._swarm.kind != "etcd" or self._joining.under_way:
            return False
        return await self.is_superseded() or await self._joining.lost_its_part()

    async def _forget(self) -> None:
        """The data of this manager's member is worth nothing any more: it has to join anew."""
        log.warning("this manager has no part in the managers' agreement: it asks for one")
        before = pointers.read(self._directory)
        await asyncio.to_thread(pointers.write, self._directory, replace(pointers.NONE, moves=before.moves))
