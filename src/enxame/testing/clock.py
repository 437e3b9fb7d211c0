"""Time that stands still until it is told to go on: many simulated hours pass in a second, always the same way."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count

from enxame.control.now import Now

#: When every simulation begins.
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Timer:
    """A call to come; ``cancel`` makes it not happen."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Forget the call."""
        self.call = None


class VirtualClock:
    """Runs calls in the order of their time; calls of the same time in the order they were made."""

    def __init__(self) -> None:
        self.mono = 0.0
        self._calls: list[tuple[float, int, Timer]] = []
        self._order = count()

    def now(self) -> Now:
        """The present moment."""
        return Now(self.mono, self.wall())

    def wall(self) -> datetime:
        """The present moment as people show it."""
        return EPOCH + timedelta(seconds=self.mono)

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        """Run ``call`` at a time (seconds since the beginning), at once if that is past."""
        timer = Timer(call)
        heapq.heappush(self._calls, (max(when, self.mono), next(self._order), timer))
        return timer

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        """Run ``call`` after so many seconds."""
        return self.call_at(self.mono + delay, call)

    def run_until(self, when: float) -> None:
        """Let time pass up to ``when``, with all calls that are due, and those that they make."""
        while self._calls and self._calls[0][0] <= when:
            self.mono, _, timer = heapq.heappop(self._calls)
            call, timer.call = timer.call, None
            if call is not None:
                call()
        self.mono = max(self.mono, when)
