from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from enxame.errors import EnxameError
from enxame.network.kernel_thread import KernelThread


@pytest.fixture
async def kernel() -> AsyncIterator[KernelThread]:
    made = KernelThread()
    yield made
    await made.close()


async def test_all_work_is_done_in_one_thread(kernel: KernelThread) -> None:
    threads = {await kernel.call(threading.get_ident) for _ in range(3)}
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_before_it_is_opened_it_says_so(kernel: KernelThread) -> None:
    for place in (kernel.with_routes, kernel.with_filter):
        with pytest.raises(EnxameError, match="the data plane is not started"):
            await place(lambda _: None)


async def test_a_cancellation_waits_for_the_work_that_is_to_be_undone(kernel: KernelThread) -> None:
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go.wait(30)
        done.set()

    task = asyncio.create_task(kernel.finish(work))
    assert await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()
