"""Questions to the resolver that containers have, and its answers."""

from __future__ import annotations

import asyncio
import socket
import struct

from enxame.engine.sandbox import SandboxInfo
from tests.engine.network_machine import Machine

A, PTR, AAAA, MX = 1, 12, 28, 15


def query(name: str, kind: int = A, *, edns: bool = False) -> bytes:
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    extra = struct.pack("!BHHIH", 0, 41, 1232, 0, 0) if edns else b""
    return (
        b"\x12\x34\x01\x00"
        + struct.pack("!HHHH", 1, 0, 0, int(edns))
        + labels
        + b"\0"
        + struct.pack("!HH", kind, 1)
        + extra
    )


def read(reply: bytes) -> tuple[int, list[str]]:
    """Code and the answers' data as text."""
    assert reply[:2] == b"\x12\x34"
    assert reply[2] & 0x80
    count = struct.unpack_from("!H", reply, 6)[0]
    position = 12
    while reply[position]:
        position += reply[position] + 1
    position += 5
    found = []
    for _ in range(count):
        assert reply[position : position + 2] == b"\xc0\x0c"
        kind, _, _, length = struct.unpack_from("!HHIH", reply, position + 2)
        data = reply[position + 12 : position + 12 + length]
        position += 12 + length
        if kind == A:
            found.append(socket.inet_ntop(socket.AF_INET, data))
        elif kind == AAAA:
            found.append(socket.inet_ntop(socket.AF_INET6, data))
        elif kind == PTR:
            labels, at = [], 0
            while data[at]:
                labels.append(data[at + 1 : at + 1 + data[at]].decode())
                at += data[at] + 1
            found.append(".".join(labels))
        else:
            found.append(data.hex())
    return reply[3] & 0x0F, found


def ask_name(message: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(3)
        client.connect(("127.0.0.11", 53))
        client.send(message)
        return client.recv(4096)


def ask_name_tcp(message: bytes) -> bytes:
    with socket.create_connection(("127.0.0.11", 53), timeout=3) as client:
        client.sendall(struct.pack("!H", len(message)) + message)
        stream = client.makefile("rb")
        (length,) = struct.unpack("!H", stream.read(2))
        return stream.read(length)


async def resolve(
    machine: Machine, info: SandboxInfo, name: str, kind: int = A, *, tcp: bool = False
) -> tuple[int, list[str]]:
    asker = ask_name_tcp if tcp else ask_name
    message = query(name, kind)
    code, found = read(await asyncio.to_thread(machine.lab.run, info.netns_path, lambda: asker(message)))
    return code, sorted(found)
