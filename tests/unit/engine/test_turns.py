from __future__ import annotations

import asyncio
import time

import pytest

from enxame.engine.turns import _TOGETHER, Queue, Turns


async def turn_of_the_loop() -> None:
    """All that is ready now has run when this returns."""
    await asyncio.sleep(0)


async def test_who_comes_alone_need_not_wait() -> None:
    turns = Turns()
    coroutine = turns.wait()
    with pytest.raises(StopIteration):
        coroutine.send(None)


async def test_of_a_crowd_few_go_on_in_each_turn_and_in_their_order() -> None:
    turns, passed, most, before = Turns(), [], 0, 0

    async def one(number: int) -> None:
        await turns.wait()
        passed.append(number)

    crowd = [asyncio.create_task(one(number)) for number in range(50)]
    while len(passed) < len(crowd):
        await turn_of_the_loop()
        most, before = max(most, len(passed) - before), len(passed)
    assert passed == list(range(50))
    assert most <= 2 * _TOGETHER  # those of a turn and of the next may meet in one of ours


async def test_those_who_gave_up_do_not_hold_up_the_others() -> None:
    turns, passed = Turns(), []

    async def one(number: int) -> None:
        await turns.wait()
        passed.append(number)

    crowd = [asyncio.create_task(one(number)) for number in range(50)]
    await turn_of_the_loop()
    for task in crowd[:40]:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    assert set(range(40, 50)) <= set(passed)
    await asyncio.gather(*(one(number) for number in range(20)))  # it goes on working


async def test_many_items_take_several_turns_and_keep_their_order() -> None:
    done: list[int] = []

    def handle(number: int) -> None:
        time.sleep(0.001)
        done.append(number)

    queue: Queue[int] = Queue(handle)
    queue.put(*range(30))
    assert 0 < len(done) < 30
    queue.put(30)
    async with asyncio.timeout(60):
        while len(done) < 31:
            await turn_of_the_loop()
    assert done == list(range(31))


async def test_an_item_that_fails_does_not_keep_the_others() -> None:
    done: list[int] = []

    def handle(number: int) -> None:
        if number == 0:
            raise ValueError("0")
        done.append(number)

    queue: Queue[int] = Queue(handle)
    with pytest.raises(ValueError, match="0"):
        queue.put(0, 1, 2)
    await turn_of_the_loop()
    await turn_of_the_loop()
    assert done == [1, 2]


async def test_what_waits_can_be_forgotten() -> None:
    done: list[int] = []

    def handle(number: int) -> None:
        time.sleep(0.005)
        done.append(number)

    queue: Queue[int] = Queue(handle)
    queue.put(0, 1, 2)
    queue.clear()
    await turn_of_the_loop()
    await turn_of_the_loop()
    assert done == [0]
