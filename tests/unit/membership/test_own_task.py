import asyncio

import pytest

from enxame.membership.lead_or_follow import again_and_again
from enxame.membership.own_task import in_own_task

DEADLINE = 5.0


async def fails_when_cancelled():
    async def fail():
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("broke while it was ended")

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())


async def cancelled_soon(work):
    task = asyncio.create_task(work)
    await asyncio.sleep(0.02)
    task.cancel()
    async with asyncio.timeout(DEADLINE):
        await asyncio.wait({task})
    return task


async def test_work_that_fails_while_it_is_cancelled_does_not_hide_the_cancellation():
    assert (await cancelled_soon(in_own_task(fails_when_cancelled(), "work"))).cancelled()


async def test_what_is_begun_again_and_again_ends_when_it_is_cancelled():
    assert (await cancelled_soon(again_and_again("work", fails_when_cancelled))).cancelled()


async def test_failures_and_ends_are_passed_on():
    async def ends():
        await asyncio.sleep(0)

    async def fails():
        raise ValueError("why")

    await in_own_task(ends(), "work")
    with pytest.raises(ValueError, match="why"):
        await in_own_task(fails(), "work")
