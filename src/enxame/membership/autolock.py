"""Locks this manager as the swarm wants it: its keys are wrapped with the unlock key of the swarm's state, or open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from enxame.errors import EnxameError
from enxame.membership.founding import unlock_key_of
from enxame.membership.own_identity import OwnIdentity
from enxame.membership.state_keys import StateKeys
from enxame.model.cluster import Cluster
from enxame.store.store import Store
from enxame.store.watch import WatchLagged

__all__ = ["Autolock"]

log = logging.getLogger(__name__)


class Autolock:
    """``renew_key`` encrypts the state with a fresh key: what lay open until now is worth nothing any more."""

    def __init__(
        self, keys: StateKeys, own: OwnIdentity, store: Store, *, renew_key: Callable[[], Awaitable[None]]
    ) -> None:
        self._keys = keys
        self._own = own
        self._store = store
        self._renew_key = renew_key
        self._applying = asyncio.Lock()

    async def follow(self) -> None:
        """Do what the swarm's state says, until cancelled."""
        while True:
            async with self._store.watch(Cluster) as watch:
                try:
                    while True:
                        await self.apply()
                        await watch.next()
                except WatchLagged:
                    continue

    async def apply(self) -> None:
        """Do what the swarm's state says now. Raises EnxameError, OSError."""
        async with self._applying:
            cluster = next(iter(self._store.view.all(Cluster)), None)
            if cluster is None:
                return
            unlock_key = unlock_key_of(cluster)
            was_open = not self._keys.passphrase
            if not await asyncio.to_thread(self._keys.protect, unlock_key):
                # Also what a crash kept from being done.
                await self._own.protect()
                return
            log.info("this manager is %s", "locked when it stops" if unlock_key else "not locked any more")
            await self._own.protect()
            if unlock_key and was_open:
                try:
                    await self._renew_key()
                except EnxameError as error:
                    log.error("the swarm's state is not encrypted with a fresh key yet: %s", error.message)
