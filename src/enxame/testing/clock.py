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
        #: How far people's clock was set forward since the beginning: seconds.
        self.shift = 0.0
        self._shown, self._wall = 0.0, EPOCH
        self._calls: list[tuple[float, int, Timer]] = []
        self._order = count()

    def now(self) -> Now:
        """The present moment."""
        return Now(self.mono, self.wall())

    def wall(self) -> datetime:
        """The present moment as people show it."""
        shown = self.mono + self.shift
        if shown != self._shown:
            self._shown, self._wall = shown, EPOCH + timedelta(seconds=shown)
        return self._wall

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


class Process:
    """A process' part in a clock's time: while it is stopped nothing of it happens, afterwards all that was due."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._stopped = False
        self._due: list[Timer] = []

    @property
    def mono(self) -> float:
        """Seconds since the beginning."""
        return self._clock.mono

    def wall(self) -> datetime:
        """The present moment as people show it."""
        return self._clock.wall()

    @property
    def stopped(self) -> bool:
        """It hangs."""
        return self._stopped

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        """Run ``call`` after so many seconds, or when the process goes on."""
        timer = Timer(call)

        def due() -> None:
            if self._stopped:
                self._due.append(timer)
            else:
                _run(timer)

        self._clock.call_later(delay, due)
        return timer

    def stop(self) -> None:
        """Hang."""
        self._stopped = True

    def go_on(self) -> None:
        """Hang no more."""
        if self._stopped:
            self._stopped = False
            due, self._due = self._due, []
            for timer in due:
                self._clock.call_later(0.0, lambda timer=timer: _run(timer))  # type: ignore[misc]


def _run(timer: Timer) -> None:
    call, timer.call = timer.call, None
    if call is not None:
        call()
