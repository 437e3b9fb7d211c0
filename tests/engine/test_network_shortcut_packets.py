"""Packets made by hand through a machine whose connections take shortcuts: which are translated, and how exactly."""

from __future__ import annotations

import os
import random
import socket
import struct
from asyncio import to_thread
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from enxame.engine.sandbox import SandboxInfo
from enxame.network.shortcuts import shortcuts
from tests.engine.busy_connections import Echo, Seen, flows, kernel_side, make_busy, open_connection, ping
from tests.engine.mesh_lab import ingress, set_ingress
from tests.engine.network_lab import HOST, eventually
from tests.engine.network_machine import Machine
from tests.engine.test_network_ipv6 import HOST6
from tests.engine.test_network_shortcuts import ipv6_task
from tests.unit.network.shortcuts.test_flow import checksum, same

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ACK, PUSH, RESET = 0x10, 0x18, 0x04
_OUTGOING = 4


@dataclass(frozen=True)
class Packet:
    """A TCP packet in its frame. Checksums are right, but for what is added to them."""

    to: bytes
    source: str
    destination: str
    source_port: int
    port: int
    sequence: int
    content: bytes = b""
    flags: int = ACK
    hops: int = 9
    options: bytes = b""
    fragment: int = 0
    wrong: int = 0
    header_wrong: int = 0
    tag: bytes = b""

    @property
    def version(self) -> int:
        return 6 if ":" in self.source else 4

    def encode(self) -> bytes:
        family = socket.AF_INET6 if self.version == 6 else socket.AF_INET
        source, destination = (socket.inet_pton(family, name) for name in (self.source, self.destination))
        body = struct.pack("!HHIIBBHHH", self.source_port, self.port, self.sequence, 1, 5 << 4, self.flags, 500, 0, 0)
        body += self.content
        check = checksum(source + destination + struct.pack("!II", len(body), 6) + body)
        body = body[:16] + struct.pack("!H", (check + self.wrong) & 0xFFFF) + body[18:]
        link = self.to + bytes.fromhex("02000000000a") + self.tag
        if self.version == 6:
            header = struct.pack("!IHBB", 6 << 28 | 0x12345, len(body), 6, self.hops) + source + destination
            return link + b"\x86\xdd" + header + body
        words = 5 + len(self.options) // 4
        header = struct.pack(
            "!BBHHHBBH", 0x40 | words, 0, words * 4 + len(body), 77, self.fragment, self.hops, 6, 0
        ) + (source + destination + self.options)
        check = (checksum(header) + self.header_wrong) & 0xFFFF
        return link + b"\x08\x00" + header[:10] + struct.pack("!H", check) + header[12:] + body


@dataclass(frozen=True)
class Arrived:
    """What the task's link got."""

    frame: bytes

    @property
    def version(self) -> int:
        return self.frame[14] >> 4

    @property
    def hops(self) -> int:
        return self.frame[14 + (7 if self.version == 6 else 8)]

    @property
    def _header(self) -> int:
        return 40 if self.version == 6 else (self.frame[14] & 15) * 4

    @property
    def _tcp(self) -> bytes:
        length = (
            struct.unpack_from("!H", self.frame, 18)[0]
            if self.version == 6
            else struct.unpack_from("!H", self.frame, 16)[0] - self._header
        )
        return self.frame[14 + self._header :][:length]

    @property
    def sequence(self) -> int:
        return int(struct.unpack_from("!I", self._tcp, 4)[0])

    @property
    def port(self) -> int:
        return int(struct.unpack_from("!H", self._tcp, 2)[0])

    @property
    def content(self) -> bytes:
        return self._tcp[20:]

    @property
    def header_is_right(self) -> bool:
        return self.version == 6 or checksum(self.frame[14 : 14 + self._header]) == 0

    @property
    def error(self) -> int:
        """How far the checksum is from the right one."""
        start, size = (22, 32) if self.version == 6 else (26, 8)
        addresses, body = self.frame[start : start + size], self._tcp
        right = checksum(addresses + struct.pack("!II", len(body), 6) + body[:16] + b"\0\0" + body[18:])
        (found,) = struct.unpack_from("!H", body, 16)
        return 0 if same(found, right) else (found - right) & 0xFFFF


class Wire:
    """Sends frames from outside, and hears what comes to the task."""

    def __init__(self, machine: Machine, sender: socket.socket, task: socket.socket, known: Packet) -> None:
        self.machine = machine
        self._sender = sender
        self._task = task
        #: Of the connection that takes a shortcut.
        self.known = known
        self._next = random.Random(7)

    def packet(self, **changes: object) -> Packet:
        return replace(self.known, sequence=self._next.getrandbits(32), **changes)

    def send(self, *packets: Packet) -> None:
        for packet in packets:
            self._sender.send(packet.encode())

    def hear(self, packet: Packet) -> list[Arrived]:
        """What came until this packet did, which is the last."""
        heard: list[Arrived] = []
        while not heard or heard[-1].sequence != packet.sequence:
            frame, address = self._task.recvfrom(4096)
            if address[2] != _OUTGOING and frame[12:14] in {b"\x08\x00", b"\x86\xdd"}:
                arrived = Arrived(frame)
                protocol = frame[20] if arrived.version == 6 else frame[23]
                if protocol == socket.IPPROTO_TCP:
                    heard.append(arrived)
        return heard


def raw(link: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
    made.bind((link, 0))
    made.settimeout(5)
    return made


@contextmanager
def wired(machine: Machine, info: SandboxInfo, connection: socket.socket, address: str) -> Iterator[Wire]:
    lab = machine.lab
    shown = lab.command(lab.host, "ip -br link show up0").split()
    link = next(word for word in shown if word.count(":") == 5)
    with lab.run(lab.outside, lambda: raw("eth0")) as sender, lab.run(info.netns_path, lambda: raw("eth0")) as task:
        known = Packet(
            bytes.fromhex(link.replace(":", "")),
            connection.getsockname()[0],
            address,
            connection.getsockname()[1],
            8080,
            0,
        )
        yield Wire(machine, sender, task, known)


@pytest.fixture(params=[HOST, HOST6])
async def wire(
    machine: Machine, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Wire]:
    """With a connection that takes a shortcut, over one version of IP."""
    monkeypatch.setattr(shortcuts, "_LOOK_AROUND", 0.1)
    info = await ipv6_task(machine)
    server = Echo(machine.lab, info.netns_path, 7, six=request.param == HOST6)
    try:
        await set_ingress(machine, ingress(8080, "10.0.0.3", "fd00:5::3", target=7))
        if kernel_side(machine) is None:
            pytest.skip("this kernel lets no eBPF program look at packets")
        with await to_thread(open_connection, machine, request.param) as connection:
            await to_thread(make_busy, machine, connection)
            with wired(machine, info, connection, request.param) as made:
                yield made
            await to_thread(ping, connection, 10)
    finally:
        await to_thread(server.close)


async def test_packets_of_any_content_arrive_with_right_checksums_and_one_hop_less(wire: Wire) -> None:
    seen, random_ = Seen(wire.machine), random.Random(1)
    packets = [
        wire.packet(
            content=random_.randbytes(random_.randrange(1390)),
            hops=random_.randrange(2, 256),
            flags=random_.choice([ACK, PUSH]),
        )
        for _ in range(200)
    ]
    with seen.at_most(10):
        for packet in packets:
            wire.send(packet)
            arrived = (await to_thread(wire.hear, packet))[-1]
            assert (arrived.content, arrived.hops, arrived.port) == (packet.content, packet.hops - 1, 7)
            assert arrived.header_is_right
            assert arrived.error == 0


async def test_a_wrong_checksum_is_as_wrong_afterwards(wire: Wire) -> None:
    for wrong in (1, 0x100, 0x7FFF):
        packet = wire.packet(content=b"?", wrong=wrong)
        wire.send(packet)
        arrived = (await to_thread(wire.hear, packet))[-1]
        assert arrived.error != 0
        assert arrived.header_is_right
    if wire.known.version == 4:
        packet = wire.packet(header_wrong=3)
        wire.send(packet)
        assert not (await to_thread(wire.hear, packet))[-1].header_is_right


async def test_frames_for_others_and_tagged_ones_go_nowhere(wire: Wire) -> None:
    ignored = [
        wire.packet(to=bytes.fromhex("02000000000b")),
        wire.packet(tag=bytes.fromhex("81000005")),
        wire.packet(tag=bytes.fromhex("88a8000581000006")),
        wire.packet(hops=1),
        wire.packet(hops=0),
    ]
    last = wire.packet(content=b"last")
    wire.send(*ignored, last)
    heard = {item.sequence for item in await to_thread(wire.hear, last)}
    assert not heard & {packet.sequence for packet in ignored}


async def test_options_and_fragments_take_the_long_way(wire: Wire) -> None:
    if wire.known.version == 6:
        pytest.skip("version 6 has its options in headers of their own")
    seen = Seen(wire.machine)
    with_options = wire.packet(options=bytes([1] * 8), content=b"options")
    before = seen.packets
    wire.send(with_options)
    arrived = (await to_thread(wire.hear, with_options))[-1]
    assert (arrived.port, arrived.error, arrived.header_is_right) == (7, 0, True)
    assert seen.packets == before + 1
    whole = wire.packet(content=bytes(44))
    frame = whole.encode()

    def part(start: int, end: int, fragment: int) -> bytes:
        body = frame[34:][start:end]
        header = bytearray(frame[14:34])
        struct.pack_into("!H", header, 2, 20 + len(body))
        struct.pack_into("!H", header, 6, fragment)
        struct.pack_into("!H", header, 10, 0)
        struct.pack_into("!H", header, 10, checksum(bytes(header)))
        return frame[:14] + bytes(header) + body

    wire._sender.send(part(0, 32, 0x2000))
    wire._sender.send(part(32, 64, 4))
    arrived = (await to_thread(wire.hear, whole))[-1]
    assert arrived.port == 7, "whole or in parts"
    assert seen.packets > before + 1


async def test_resets_arrive_wherever_tracking_believes_the_connection_to_be(wire: Wire) -> None:
    """It would take half of them for forged: gigabytes may have passed that it did not see."""
    for _ in range(20):
        reset = wire.packet(flags=RESET)
        wire.send(reset)
        arrived = (await to_thread(wire.hear, reset))[-1]
        assert (arrived.port, arrived.error) == (7, 0)


async def test_packets_of_no_connection_change_nothing(wire: Wire) -> None:
    """Neither those to the port, thousands of them, nor those to others."""
    before = set(flows(wire.machine))
    random_ = random.Random(3)
    strangers = [wire.packet(source_port=random_.randrange(1024, 65536)) for _ in range(3000)]
    strangers = [packet for packet in strangers if packet.source_port != wire.known.source_port]
    strangers.append(wire.packet(port=9999))
    while strangers:
        last = wire.packet(content=b"last")
        wire.send(*strangers[:50], last)
        await to_thread(wire.hear, last)
        del strangers[:50]
    reader = kernel_side(wire.machine)
    assert reader is not None

    def all_looked_at() -> bool:
        assert reader is not None
        return not reader._fresh and _is_empty(reader._reader)

    assert await to_thread(eventually, all_looked_at)
    assert set(flows(wire.machine)) == before


def _is_empty(reader: object) -> bool:
    places: Callable[[str], bytes] = lambda name: bytes(getattr(reader, name)[:8])  # noqa: E731
    return places("_consumer") == places("_producer")
