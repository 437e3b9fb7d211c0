"""Who hears of changes to the manager's tables."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from enxame.engine.networks.tables import NetworkTables, TableChange
from enxame.model.dispatch import NetworkEndpoint, NetworkTable


async def test_a_session_that_breaks_in_the_middle_keeps_nobody_from_hearing_of_a_change() -> None:
    tables = NetworkTables()
    told: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Sequence[TableChange]) -> None:
        begun.set()
        await go_on.wait()
        told.append("slow")

    async def last(changes: Sequence[TableChange]) -> None:
        told.extend(id_ for change in changes for id_ in change.endpoints)

    tables.subscribe(slow)
    tables.subscribe(last)
    table = NetworkTable(network_id="n", endpoints=[NetworkEndpoint(id="task")])
    session = asyncio.create_task(tables.set([table], complete=False))
    await begun.wait()
    session.cancel()
    await asyncio.sleep(0)
    assert not session.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await session
    assert told == ["slow", "task"]
