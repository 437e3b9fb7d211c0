"""A manager that was recovered at another address tells whoever comes back at the former one.

A single manager that was given up knows nobody whom it could ask. It is told as a node would tell it that follows the
recovered swarm: by a session with a higher incarnation. It goes on as it was, for its tasks may be wanted, but its
users are warned.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

from enxame.errors import EnxameError
from enxame.transport import dialer
from enxame.transport.methods import CA_ROOT, NODE_SESSION, Nothing, SessionRequest

__all__ = ["superseded_warning", "tell_former_manager"]

log = logging.getLogger(__name__)

#: Between two looks whether somebody is there, and the longest time that one takes: seconds.
LOOK_EVERY: Final = 10.0
LOOK_DEADLINE: Final = 10.0


async def tell_former_manager(
    address: str, context: Callable[[], ssl.SSLContext], incarnation: Callable[[], int], *, every: float = LOOK_EVERY
) -> None:
    """Look again and again, until cancelled. It may come back after years, and forgets what it heard when it stops."""
    said = False
    while True:
        try:
            async with asyncio.timeout(LOOK_DEADLINE):
                told = await _tell(address, context(), incarnation())
            if told and not said:
                log.warning("the former manager is back at %s: it was told that the swarm went on without it", address)
            said = told
        except (EnxameError, TimeoutError) as error:
            log.debug("nobody to be told at %s: %s", address, error)
            said = False
        await asyncio.sleep(every)


async def _tell(address: str, context: ssl.SSLContext, incarnation: int) -> bool:
    """Whether a manager of an earlier incarnation is there; it is told of this one."""
    async with dialer.link(address, context) as peer:
        if (await peer.call(CA_ROOT, Nothing())).incarnation >= incarnation:
            return False
        async with aclosing(peer.stream(NODE_SESSION, SessionRequest(incarnation=incarnation))) as session:
            try:
                await anext(session)
            except EnxameError as refusal:
                log.debug("what the former manager says: %s", refusal.message)
        return True


def superseded_warning(incarnation: int) -> str:
    """What users of a manager see that the swarm goes on without; incarnations are about times in seconds."""
    when = datetime.fromtimestamp(incarnation, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return (
        f"WARNING: This swarm was recovered on another machine ({when}) and goes on there: no node follows this"
        ' manager any more. End its tasks with "docker swarm leave --force"; it can join again as a new node'
    )
