"""What becomes of an answer that nobody waits for any more."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from enxame.store.etcd_channel import unless
from enxame.store.etcd_messages import EtcdUnavailable


async def _refusal() -> None:
    raise EtcdUnavailable("stream removed")


@pytest.mark.parametrize("turns", range(1, 5))
async def test_a_failure_that_comes_as_its_reader_is_cancelled_is_looked_at(turns: int) -> None:
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unhandled.append(context))
    ended = asyncio.get_running_loop().create_future()
    reader = asyncio.create_task(unless(ended, _refusal()))
    for _ in range(turns):
        await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait({reader})
    del reader
    await asyncio.sleep(0)
    gc.collect()
    assert unhandled == []


async def test_a_channel_that_ends_ends_the_wait_for_an_answer() -> None:
    ended = asyncio.get_running_loop().create_future()
    reader = asyncio.create_task(unless(ended, asyncio.Event().wait()))
    await asyncio.sleep(0)
    ended.set_result(True)
    with pytest.raises(EtcdUnavailable, match="closed"):
        await reader
