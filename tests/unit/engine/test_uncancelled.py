import asyncio
import threading

import pytest

from enxame.engine.uncancelled import to_the_end


async def test_the_result_and_the_error_come_through():
    assert await to_the_end(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await to_the_end(lambda: 1 // 0)


async def test_a_cancellation_waits_until_the_call_has_ended():
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work():
        begun.set()
        may_end.wait(10)
        ended.set()
        raise OSError("told to nobody")

    task = asyncio.create_task(to_the_end(work))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
