"""Crowds in single file: hundreds of containers that end or are told to end at once must not hold the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

__all__ = ["Queue", "Turns"]

T = TypeVar("T")
#: Who may go on in one turn of the loop. What each does until it waits again takes some tenths of a millisecond.
_TOGETHER: Final = 4
#: Seconds of work in one turn.
_BUDGET: Final = 0.004


class Turns:
    """Lets a few of those that come together go on in each turn of the event loop; who comes alone need not wait."""

    def __init__(self) -> None:
        self._left = _TOGETHER
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._scheduled = False

    async def wait(self) -> None:
        """Return when it is one's turn."""
        loop = asyncio.get_running_loop()
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._next)
        if self._left > 0 and not self._waiting:
            self._left -= 1
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        self._left = _TOGETHER
        while self._waiting and self._left > 0:
            turn = self._waiting.popleft()
            if not turn.done():  # its waiter was cancelled
                turn.set_result(None)
                self._left -= 1
        self._scheduled = bool(self._waiting) or self._left < _TOGETHER
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._next)


class Queue(Generic[T]):
    """Calls ``handle`` with each item in its order: at once, as far as that takes a few milliseconds, the rest in the
    next turns of the event loop.
    """

    def __init__(self, handle: Callable[[T], None]) -> None:
        self._handle = handle
        self._items: deque[T] = deque()
        self._scheduled = False

    def put(self, *items: T) -> None:
        """Add items."""
        self._items.extend(items)
        if not self._scheduled:
            self._work()

    def _work(self) -> None:
        until = time.monotonic() + _BUDGET
        self._scheduled = True
        try:
            while self._items and time.monotonic() < until:
                self._handle(self._items.popleft())
        finally:
            self._scheduled = bool(self._items)
            if self._scheduled:
                asyncio.get_running_loop().call_soon(self._work)

    def clear(self) -> None:
        """Forget what waits."""
        self._items.clear()
