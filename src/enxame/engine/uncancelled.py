"""Blocking calls that, once begun, are waited for: a thread cannot be cancelled; its changes must be known whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

__all__ = ["to_the_end"]

T = TypeVar("T")


async def to_the_end(function: Callable[[], T], executor: Executor | None = None) -> T:
    """Call ``function`` in a thread (of the loop's, or of ``executor``). A cancellation that comes meanwhile is raised
    when it has ended, so that locks around the call cover all of it.

    Raises:
        CancelledError: the caller was cancelled; the function has ended all the same.
    """
    call = asyncio.get_running_loop().run_in_executor(executor, function)
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait({call})
        if not call.cancelled():
            call.exception()  # looked at; the cancellation is what is told
        raise
