"""Keeps a node's certificate good: renews it in time, and when the swarm's root changes; says whom the node trusts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

from enxame.errors import EnxameError
from enxame.membership.certificate_files import seconds_to_renewal
from enxame.membership.own_identity import OwnIdentity
from enxame.membership.self_description import Shown
from enxame.security import ca
from enxame.transport.methods import NodeCertificate

__all__ = ["LOOK_AT_CLOCK", "RENEWAL_RETRY", "CertificateKeeper"]

log = logging.getLogger(__name__)

#: Longest time between two looks at the clock: seconds. The wall clock may be set.
LOOK_AT_CLOCK: Final = 3600.0
#: Waits after a failure: seconds, doubled each time up to the time between two looks.
RENEWAL_RETRY: Final = 60.0
#: The same while the root is rotated: the whole swarm waits.
ROTATION_RETRY: Final = 1.0
LONGEST_ROTATION_RETRY: Final = 30.0


class CertificateKeeper:
    """``obtain`` gets a certificate for a signing request; ``renewed`` is told that there is a new one; ``tell`` lets
    the managers know whom this node trusts now. ``spread`` is over how many seconds the nodes' requests are to be
    spread when all of them need new certificates.
    """

    def __init__(
        self,
        own: OwnIdentity,
        *,
        obtain: Callable[[str], Awaitable[NodeCertificate]],
        renewed: Callable[[], None],
        tell: Callable[[Shown], Awaitable[None]],
        spread: Callable[[], float],
        rng: Callable[[], float],
        wall: Callable[[], datetime],
    ) -> None:
        self._own = own
        self._obtain = obtain
        self._renewed = renewed
        self._tell = tell
        self._spread = spread
        self._rng = rng
        self._wall = wall
        self._look = asyncio.Event()
        #: What the managers were told last, as far as is known.
        self._told = Shown()

    async def trust(self, root: str, next_root: str) -> None:
        """The swarm's roots, as a manager tells them."""
        if root and await self._own.trust(root, next_root):
            log.info("this node trusts %s", "two root certificates, one to come" if next_root else "a new root")
            self._look.set()

    def shown(self) -> Shown:
        """Whom the node trusts, for a description that is about to be sent: it may arrive late, after what is told
        meanwhile, and takes its place then.
        """
        self._told = self._own.shown
        return self._told

    async def run(self) -> None:
        """Look after the certificate until cancelled."""
        random, failures = self._rng(), 0
        while self._own.identity is not None:
            self._look.clear()
            remaining = seconds_to_renewal(self._own.identity, self._wall(), random)
            rotating = self._own.is_due
            try:
                if rotating or remaining <= 0:
                    if rotating:
                        await asyncio.sleep(self._spread() * self._rng())
                    await self.renew()
                    log.info("this node's certificate was renewed")
                    random = self._rng()
                elif self._told != (shown := self._own.shown):
                    await self._tell(shown)
                    self._told = shown
                else:
                    await self._wait(min(remaining, LOOK_AT_CLOCK))
                failures = 0
            except (EnxameError, OSError) as error:
                delay = _delay(failures, rotating=rotating or remaining > 0)
                failures += 1
                if rotating or remaining <= 0:
                    log.warning("this node's certificate was not renewed; trying again in %g s: %s", delay, error)
                else:
                    log.info("the managers do not know yet whom this node trusts: %s", error)
                await self._wait(delay)

    async def renew(self) -> None:
        """Get another certificate now. Raises EnxameError, OSError; then the old one stands."""
        key, request = await asyncio.to_thread(ca.new_signing_request)
        answer = await self._obtain(request)
        await self._own.certified(answer.certificate, key, answer.root, answer.next_root)
        self._renewed()

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._look.wait()


def _delay(failures: int, *, rotating: bool) -> float:
    first, longest = (ROTATION_RETRY, LONGEST_ROTATION_RETRY) if rotating else (RENEWAL_RETRY, LOOK_AT_CLOCK)
    return min(first * float(2 ** min(failures, 20)), longest)
