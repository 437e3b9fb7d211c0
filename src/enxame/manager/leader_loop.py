"""The leader's loop: feeds committed events to the pure machines of ``control`` and commits what they decide."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from enxame.control.leader import Leader
from enxame.control.now import Now
from enxame.store.backend import CommitFailed
from enxame.store.interface import Event
from enxame.store.store import Store
from enxame.store.watch import Watch, WatchLagged

log = logging.getLogger(__name__)

#: Wait before deciding again after a commit was refused (disk full, lost leadership): seconds.
RETRY_DELAY = 1.0


class LeaderLoop:
    """Runs on the leader alone. Wakes on every commit, and when the machines asked to be woken."""

    def __init__(self, store: Store, leader: Leader, now: Callable[[], Now]) -> None:
        self._store = store
        self._leader = leader
        self._now = now

    async def run(self) -> None:
        """Decide until cancelled. A refused commit is retried from a full look at the state."""
        while True:
            async with self._store.watch() as watch:
                try:
                    await self._decide(watch)
                except WatchLagged:
                    log.warning("the leader fell behind its own events; looking at everything again")
                except asyncio.CancelledError:
                    raise
                except CommitFailed as refused:
                    log.warning("the leader's decision was not carried out: %s", refused.message)
                    await asyncio.sleep(RETRY_DELAY)
                except Exception:
                    log.exception("the leader's decision could not be carried out; trying again in %g s", RETRY_DELAY)
                    await asyncio.sleep(RETRY_DELAY)

    async def _decide(self, watch: Watch) -> None:
        wake = await self._store.update(lambda tx: self._leader.start(tx, self._now()))
        while True:
            events = await self._next(watch, wake)
            wake = await self._store.update(lambda tx, events=events: self._leader.step(tx, events, self._now()))  # type: ignore[misc]

    async def _next(self, watch: Watch, wake: float | None) -> list[Event]:
        if wake is None:
            return await watch.next()
        try:
            async with asyncio.timeout(max(0.0, wake - self._now().mono)):
                return await watch.next()
        except TimeoutError:
            return []
