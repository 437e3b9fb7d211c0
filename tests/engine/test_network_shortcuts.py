"""Busy connections through published service ports take a shortcut past the machine's packet filter, and nobody but it
notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from enxame.network.shortcuts import shortcuts
from tests.engine.busy_connections import (
    Echo,
    Seen,
    exchange,
    flows,
    has_shortcut,
    kernel_side,
    make_busy,
    open_connection,
    ping,
    tracked,
)
from tests.engine.mesh_lab import ingress, set_ingress, tasks
from tests.engine.network_lab import OUTSIDE, eventually
from tests.engine.network_machine import Machine


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "_LOOK_AROUND", 0.1)


@pytest.fixture
async def echo(machine: Machine) -> AsyncIterator[Echo]:
    """A task's server, published at port 8080."""
    ((_, info),) = await tasks(machine, 1)
    server = Echo(machine.lab, info.netns_path, 7)
    try:
        await set_ingress(machine, ingress(8080, "10.0.0.3", target=7))
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def connected(machine: Machine, **how: object) -> Iterator[socket.socket]:
    with open_connection(machine, **how) as connection:
        yield connection


async def test_a_busy_connection_passes_without_the_filter_and_arrives_byte_for_byte(machine: Machine, echo: Echo) -> None:
    seen = Seen(machine)
    with await asyncio.to_thread(open_connection, machine) as connection:
        await asyncio.to_thread(make_busy, machine, connection)
        with seen.at_most(20):
            await asyncio.to_thread(ping, connection, 2000)
        for piece in (1 << 20, 1000):
            await asyncio.to_thread(exchange, connection, 10_000_000, piece)
        assert echo.clients == {OUTSIDE}
