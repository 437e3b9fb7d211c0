"""What, once begun, is done to its end: a thread cannot be cancelled, and changes must be known whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

__all__ = ["finished", "to_the_end"]

T = TypeVar("T")


async def to_the_end(function: Callable[[], T], executor: Executor | None = None) -> T:
    """Call ``function`` in a thread (of the loop's, or of ``executor``). A cancellation that comes meanwhile is raised
    when it has ended, so that locks around the call cover all of it.

    Raises:
        CancelledError: the caller was cancelled; the function has ended all the same.
    """
    return await _waited_for(asyncio.get_running_loop().run_in_executor(executor, function))


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """Do ``work``. A cancellation that comes meanwhile is raised when it is done.

    Raises:
        CancelledError: the caller was cancelled; the work is done all the same.
    """
    return await _waited_for(asyncio.ensure_future(work))


async def _waited_for(call: asyncio.Future[T]) -> T:
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait({call})
        if not call.cancelled():
            call.exception()  # looked at; the cancellation is what is told
        raise
