from __future__ import annotations

import errno
import os
import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enxame.network.netlink import (
    NetlinkError,
    NetlinkSocket,
    Request,
    attribute,
    nested,
    parse_attributes,
    text,
    u8,
    u32,
)


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=40), max_size=8))
def test_attributes_come_back_as_they_were(values: dict[int, bytes]) -> None:
    encoded = b"".join(attribute(kind, data) for kind, data in values.items())
    assert len(encoded) % 4 == 0
    assert parse_attributes(encoded) == values


def test_nested_and_typed_attributes() -> None:
    encoded = nested(18, text(1, "veth"), u8(2, 7), u32(3, 70000))
    inner = parse_attributes(parse_attributes(encoded)[18])
    assert inner == {1: b"veth\0", 2: b"\x07", 3: struct.pack("=I", 70000)}


@given(st.binary(max_size=64))
def test_garbage_does_not_break_the_parser(data: bytes) -> None:
    parse_attributes(data)


class FakeKernel:
    """Answers on the other end of a socket pair."""

    def __init__(self, netlink: NetlinkSocket) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(5)
        netlink._socket.close()
        netlink._socket = ours
        self.socket = theirs

    def requests(self) -> list[tuple[int, int, int]]:
        """type, flags, sequence of each message of one send."""
        data = self.socket.recv(1 << 17)
        found, offset = [], 0
        while offset < len(data):
            length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data, offset)
            found.append((kind, flags, sequence))
            offset += length + (-length % 4)
        return found

    @staticmethod
    def answer(kind: int, sequence: int, body: bytes, flags: int = 0) -> bytes:
        data = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body
        return data + b"\0" * (-len(data) % 4)

    def error(self, sequence: int, code: int, message: str = "") -> bytes:
        body = struct.pack("=i", -code) + struct.pack("=IHHII", 16, 0, 0, sequence, 0)
        flags = 0x100
        if message:
            body += text(1, message)
            flags |= 0x200
        return self.answer(2, sequence, body, flags)


@pytest.fixture
def wire():
    netlink = NetlinkSocket()
    kernel = FakeKernel(netlink)
    yield netlink, kernel
    netlink.close()
    kernel.socket.close()


def in_background(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def request(what: str, *, tolerated: tuple[int, ...] = ()) -> Request:
    return Request(16, 0, b"\0" * 16, what, frozenset(tolerated))


def test_a_batch_is_one_send_and_errors_belong_to_their_requests(wire) -> None:
    netlink, kernel = wire

    def serve() -> None:
        sequences = [sequence for _, _, sequence in kernel.requests()]
        answers = [
            kernel.error(sequences[0], 0),
            kernel.error(sequences[1], errno.EEXIST),
            kernel.error(sequences[2], errno.EINVAL, "Bridge is too wide"),
            kernel.error(sequences[3], errno.ENODEV),
        ]
        kernel.socket.send(answers[2] + answers[0])
        kernel.socket.send(answers[1] + answers[3])

    thread = in_background(serve)
    names = ["a", "b", "c", "d"]
    outcomes = netlink.try_all([request(name, tolerated=(errno.EEXIST,)) for name in names])
    thread.join(5)
    assert outcomes[:2] == [None, None]
    assert [str(error) for error in outcomes[2:]] == ["c: Bridge is too wide", f"d: {os.strerror(errno.ENODEV)}"]
    assert [error.errno for error in outcomes[2:] if error] == [errno.EINVAL, errno.ENODEV]


def test_interrupted_dump_is_taken_again(wire) -> None:
    netlink, kernel = wire

    def serve() -> None:
        for flags, body in ((0x10, b"torn"), (0, b"good")):
            ((_, _, sequence),) = kernel.requests()
            kernel.socket.send(kernel.answer(16, sequence - 1, b"late") + kernel.answer(16, sequence, body, flags))
            kernel.socket.send(kernel.answer(3, sequence, struct.pack("=i", 0)))

    thread = in_background(serve)
    assert netlink.dump(request("list")) == [b"good"]
    thread.join(5)


def test_silence_of_the_kernel_is_an_error(wire) -> None:
    netlink, _ = wire
    netlink._socket.settimeout(0.01)
    with pytest.raises(NetlinkError, match="did not answer"):
        netlink.execute([request("anything")])
