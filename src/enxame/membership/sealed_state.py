"""The swarm's state behind the keys of this manager."""

from __future__ import annotations

import asyncio

from enxame.errors import EnxameError
from enxame.membership.state_keys import StateKeys
from enxame.store.backend import Backend
from enxame.store.sealed import SealedBackend

__all__ = ["renew_key", "sealed_state"]


async def sealed_state(backend: Backend, keys: StateKeys, *, make_keys: bool = False) -> SealedBackend:
    """The backend, encrypted; it is loaded afterwards as ever. With ``make_keys`` missing ones are made: the state is
    one from before encryption, or none yet. A change of keys that was cut off is finished.

    Raises:
        Locked: the unlock key is needed.
        EnxameError, OSError: the keys are missing, or cannot be read or written.
    """
    if not keys.known and not await asyncio.to_thread(keys.load):
        if not make_keys:
            raise EnxameError("the keys of the swarm's state (state.key) are missing: restore a backup")
        await asyncio.to_thread(keys.create, from_plain=True)
    sealed = SealedBackend(backend, keys.ring, take_plain=keys.from_plain)
    if keys.from_plain:
        await sealed.load()
        keys.from_plain = False
        await asyncio.to_thread(keys.save)
    if len(keys.ring.keys) > 1:
        await sealed.load()
        await _finish(sealed, keys)
    return sealed


async def renew_key(sealed: SealedBackend, keys: StateKeys) -> None:
    """Encrypt everything with a fresh key, which is saved first; then the old one is forgotten."""
    keys.ring.renew()
    await asyncio.to_thread(keys.save)
    await _finish(sealed, keys)


async def _finish(sealed: SealedBackend, keys: StateKeys) -> None:
    await sealed.reseal()
    keys.ring.drop_old()
    await asyncio.to_thread(keys.save)
