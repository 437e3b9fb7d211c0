"""Work whose failures are survived, kept apart from the task that survives them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["in_own_task"]


async def in_own_task(work: Coroutine[Any, Any, None], name: str) -> None:
    """Await ``work``. When the caller is cancelled the work is, too, and the caller ends whatever the work ends with: a
    group of tasks that fails while it is cancelled would only tell of the failure.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    try:
        await asyncio.wait({task})
    finally:
        task.cancel()
        await asyncio.wait({task})
        failure = None if task.cancelled() else task.exception()
    if failure is not None:
        raise failure
