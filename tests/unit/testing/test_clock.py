from __future__ import annotations

from datetime import timedelta

from enxame.testing.clock import EPOCH, VirtualClock


def test_calls_come_in_the_order_of_their_time_then_of_their_making() -> None:
    clock = VirtualClock()
    seen: list[tuple[str, float]] = []
    for name, when in (("late", 2.0), ("first", 1.0), ("second", 1.0)):
        clock.call_at(when, lambda name=name: seen.append((name, clock.mono)))  # type: ignore[misc]
    clock.run_until(1.5)
    assert seen == [("first", 1.0), ("second", 1.0)]
    assert clock.wall() == EPOCH + timedelta(seconds=1.5)
    clock.run_until(3)
    assert seen[-1] == ("late", 2.0)


def test_what_calls_ask_for_comes_too_and_the_past_comes_at_once() -> None:
    clock = VirtualClock()
    seen: list[float] = []
    clock.call_later(1, lambda: clock.call_later(1, lambda: clock.call_at(0, lambda: seen.append(clock.mono))))
    clock.run_until(5)
    assert seen == [2.0]


def test_a_cancelled_call_does_not_come() -> None:
    clock = VirtualClock()
    seen: list[int] = []
    clock.call_later(1, lambda: seen.append(1)).cancel()
    clock.run_until(2)
    assert seen == []
