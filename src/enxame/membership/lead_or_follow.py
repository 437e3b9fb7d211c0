"""Running what is for the moment: as long as this manager leads the one thing, else the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, NoReturn

from enxame.membership.own_task import in_own_task
from enxame.membership.swarm_state import SwarmState
from enxame.store.backend import CommitFailed

__all__ = ["again_and_again", "lead_or_follow", "within"]

log = logging.getLogger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]

#: Wait before a part that broke is started again: seconds.
RESTART_DELAY: Final = 1.0


async def lead_or_follow(swarm: SwarmState, lead: Work, follow: Work) -> NoReturn:
    """Run ``lead`` while the manager leads and ``follow`` while it does not, until cancelled."""
    while True:
        if swarm.gained.is_set():
            await _until(swarm.lost, lead(), "leading")
        else:
            await _until(swarm.gained, follow(), "following")


async def again_and_again(what: str, run: Work) -> NoReturn:
    """Run until cancelled; what breaks is begun again after a while."""
    while True:
        try:
            await in_own_task(run(), what)
        except Exception:
            log.exception("%s broke off; it starts again in %g s", what, RESTART_DELAY)
            await asyncio.sleep(RESTART_DELAY)


async def within(seconds: float, what: Coroutine[Any, Any, object]) -> None:
    """Wait, but go on without when it takes too long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await what


async def _until(event: asyncio.Event, work: Coroutine[Any, Any, None], what: str) -> None:
    """Run until the event; returns a while after work that breaks off before."""
    loop = asyncio.get_running_loop()
    working = loop.create_task(work, name=what)
    waiting = loop.create_task(event.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done() and not working.cancelled() and (error := working.exception()) is not None:
            if _is_refusal(error):
                log.warning("%s ended: another manager leads, or none", what)
            else:
                log.error("%s broke off; it begins again in %g s", what, RESTART_DELAY, exc_info=error)
            with suppress(TimeoutError):
                async with asyncio.timeout(RESTART_DELAY):
                    await asyncio.shield(waiting)
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.wait({working, waiting})


def _is_refusal(error: BaseException) -> bool:
    """Whether all that happened is that commits were refused."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_refusal(one) for one in error.exceptions)
    return isinstance(error, CommitFailed)
