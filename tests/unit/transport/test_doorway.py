"""Crowds at a manager's port: few handshakes at once, in turn, and nobody in the way of others."""

import asyncio
import contextlib
import socket
from datetime import UTC, datetime, timedelta

import pytest

from enxame.errors import Unavailable
from enxame.security import ca
from enxame.transport import dialer, doorway
from enxame.transport.doorway import Doorway
from enxame.transport.identity import Identity, client_context, server_context

NOW = datetime.now(UTC)
DEADLINE = 10.0
#: The beginning of a TLS record whose rest never comes.
HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01"


@pytest.fixture(scope="module")
def root():
    return ca.create_root(NOW)


def identity(root, role, node_id):
    pair = ca.issue_node_certificate(
        root, node_id=node_id, role=role, cluster_id="c1", expiry=timedelta(hours=2), now=NOW
    )
    return Identity(pair.cert, pair.key, root.cert)


class Port:
    def __init__(self):
        self.doorway = Doorway(self.let_in)
        self.inside = 0
        self.most_waiting = 0
        self.ends = asyncio.Event()

    async def open(self, context):
        self.port = await self.doorway.open("127.0.0.1", 0, context)

    async def let_in(self, reader, writer):
        self.inside += 1
        try:
            await self.ends.wait()
        finally:
            writer.transport.abort()

    async def shout(self, data=HALF_A_HELLO, source="127.0.0.1"):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        writer.write(data)
        await writer.drain()
        return reader, writer

    def handshakes(self):
        return len(self.doorway._handshakes)

    def in_line(self):
        return len(self.doorway._line.guests())


async def eventually(condition):
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def port(root):
    made = Port()
    await made.open(server_context(identity(root, "manager", "m1")))
    yield made
    made.ends.set()
    async with asyncio.timeout(DEADLINE):
        await made.doorway.close()
        await made.doorway.emptied()


@pytest.fixture(scope="module")
def worker(root):
    return client_context(identity(root, "worker", "n1"))


async def call(port, context, held):
    async with dialer.link(f"127.0.0.1:{port.port}", context):
        await held.wait()


async def test_a_crowd_gets_in_and_few_shake_hands_at_once(port, worker, monkeypatch):
    monkeypatch.setattr(doorway, "MOST_HANDSHAKES", 3)
    most = 0
    shake = Doorway._shake_hands

    async def watched(self, connection):
        nonlocal most
        most = max(most, len(self._handshakes))
        return await shake(self, connection)

    monkeypatch.setattr(Doorway, "_shake_hands", watched)
    held = asyncio.Event()
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(call(port, worker, held))
        await eventually(lambda: port.inside == 40)
        held.set()
    assert most == 3
    assert port.doorway.waiting == 0


async def test_who_says_nothing_is_sent_away(port, monkeypatch):
    monkeypatch.setattr(doorway, "HELLO_DEADLINE", 0.05)
    reader, writer = await port.shout(b"")
    async with asyncio.timeout(DEADLINE):
        assert await reader.read() == b""
    writer.close()
    assert port.doorway.waiting == 0


async def test_a_handshake_that_stalls_is_broken_off(port, monkeypatch):
    monkeypatch.setattr(doorway, "HANDSHAKE_DEADLINE", 0.05)
    reader, writer = await port.shout()
    async with asyncio.timeout(DEADLINE):
        assert await reader.read() == b""
    writer.close()
    assert port.doorway.waiting == 0


async def test_one_address_cannot_keep_all_others_out(port, worker, monkeypatch):
    monkeypatch.setattr(doorway, "MOST_HANDSHAKES", 3)
    monkeypatch.setattr(doorway, "MOST_OF_ONE_ADDRESS", 2)
    first = await port.shout(source="127.0.0.3")
    await eventually(lambda: port.handshakes() == 1)
    stalled = [await port.shout(source="127.0.0.2") for _ in range(6)]
    await eventually(lambda: port.handshakes() == 3 and port.in_line() == 4)
    first[1].transport.abort()
    await eventually(lambda: port.handshakes() == 2)
    held = asyncio.Event()
    held.set()
    await call(port, worker, held)
    for _, writer in stalled:
        writer.transport.abort()
    await eventually(lambda: port.doorway.waiting == 0)


async def test_who_would_wait_too_long_is_told_so_at_once(port, worker, monkeypatch):
    monkeypatch.setattr(doorway, "MOST_HANDSHAKES", 1)
    monkeypatch.setattr(doorway, "LONGEST_WAIT", 0.0)
    stalled = [await port.shout() for _ in range(2)]
    await eventually(lambda: port.handshakes() == 1 and port.in_line() == 1)
    with pytest.raises(Unavailable, match="has too many callers at the moment"):
        await call(port, worker, asyncio.Event())
    for _, writer in stalled:
        writer.transport.abort()
    await eventually(lambda: port.doorway.waiting == 0)


async def test_who_gave_up_in_line_costs_no_handshake(port, monkeypatch):
    monkeypatch.setattr(doorway, "MOST_HANDSHAKES", 1)
    shaken = []
    shake = Doorway._shake_hands

    async def watched(self, connection):
        shaken.append(connection)
        return await shake(self, connection)

    monkeypatch.setattr(Doorway, "_shake_hands", watched)
    _, first = await port.shout()
    _, second = await port.shout()
    await eventually(lambda: port.in_line() == 1)
    second.transport.abort()
    first.transport.abort()
    await eventually(lambda: port.doorway.waiting == 0)
    assert len(shaken) == 1


async def test_closing_sends_all_who_wait_away(root, worker, monkeypatch):
    monkeypatch.setattr(doorway, "MOST_HANDSHAKES", 1)
    made = Port()
    await made.open(server_context(identity(root, "manager", "m1")))
    guests = [await made.shout(data) for data in (HALF_A_HELLO, HALF_A_HELLO, b"")]
    await eventually(lambda: made.handshakes() == 1 and made.in_line() == 1 and made.doorway.waiting == 3)
    async with asyncio.timeout(DEADLINE):
        await made.doorway.close()
        await made.doorway.emptied()
        for reader, writer in guests:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.transport.abort()
    assert made.doorway.waiting == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", made.port), timeout=2)
