"""A node's session with the managers: when it ends."""

from __future__ import annotations

import asyncio

import pytest

from enxame.errors import Unavailable
from enxame.membership.worker_session import WorkerSession
from enxame.model.node import NodeDescription

DEADLINE = 5.0


def session() -> WorkerSession:
    async def nothing(*_given):
        pass

    return WorkerSession(
        None,
        context=lambda: None,
        describe=NodeDescription,
        incarnation=lambda: 0,
        read_log=None,
        rng=lambda: 0.5,
        managers=["10.0.0.1:2377"],
        heard=nothing,
        refused=nothing,
    )


@pytest.mark.parametrize("again", [False, True], ids=["broken", "begun anew"])
async def test_a_session_that_breaks_while_it_is_cancelled_ends(monkeypatch, again) -> None:
    made = session()
    trying = asyncio.Event()

    async def attempt(_address):
        trying.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            # What a group of tasks makes of it whose tasks fail at that moment.
            raise Unavailable("the link broke") from None

    monkeypatch.setattr(made, "_attempt", attempt)
    made._again = again
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(DEADLINE):
        await trying.wait()
        running.cancel()
        await asyncio.wait({running})
    assert running.cancelled()


async def test_a_session_whose_tasks_failed_is_begun_again(monkeypatch) -> None:
    made = session()
    tries = asyncio.Semaphore(0)

    async def attempt(_address):
        tries.release()

        async def fail():
            raise Unavailable("the link broke")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                group.create_task(asyncio.Event().wait())
        except ExceptionGroup:
            raise Unavailable("the link broke") from None

    monkeypatch.setattr(made, "_attempt", attempt)
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(DEADLINE):
        for _ in range(3):
            await tries.acquire()
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
