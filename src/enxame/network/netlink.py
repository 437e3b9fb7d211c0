"""Netlink in batches: many requests in one send, their answers read together, the kernel's errors in words.

Requests are encoded by pure functions (see :mod:`enxame.network.rtnetlink`); this file frames, sends and decodes.
All calls block (microseconds to a few milliseconds): use them in a worker thread. A socket belongs to the network
namespace that its creating thread was in, for its whole life, and to one thread at a time.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from enxame.errors import EnxameError

#: The protocol of the packet filter and of tracked connections.
NETFILTER: Final = 12

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800

_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_NLM_F_CAPPED: Final = 0x100
_NLM_F_ACK_TLVS: Final = 0x200
_NLMSGERR_ATTR_MSG: Final = 1

_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NETLINK_GET_STRICT_CHK: Final = 12

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NLA_TYPE_MASK: Final = 0x3FFF
_NESTED: Final = 0x8000

_RECEIVE_SIZE: Final = 1 << 17
_BATCH_BYTES: Final = 64 * 1024
#: Answers wait in the socket's buffer while the rest of the batch runs; 200 KB, the usual limit, hold more than these.
_BATCH_REQUESTS: Final = 100
_ANSWER_TIMEOUT: Final = 10.0
_DUMP_ATTEMPTS: Final = 5


class NetlinkError(EnxameError):
    """The kernel refused a request. ``errno`` is its reason; the message says what was asked."""

    def __init__(self, what: str, code: int, detail: str = "") -> None:
        reason = detail or os.strerror(code)
        super().__init__(f"{what}: {reason}")
        self.errno = code


@dataclass(frozen=True, slots=True)
class Request:
    """One netlink message without its header.

    ``tolerated`` are errno values that count as success (EEXIST of an address that is there already).
    """

    type: int
    flags: int
    payload: bytes
    what: str
    tolerated: frozenset[int] = frozenset()


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded."""
    length = 4 + len(data)
    return _ATTRIBUTE.pack(length, kind) + data + b"\0" * (-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Attributes within an attribute."""
    return attribute(kind | _NESTED, b"".join(attributes))


def u8(kind: int, value: int) -> bytes:
    """An attribute of one byte."""
    return attribute(kind, struct.pack("=B", value))


def u32(kind: int, value: int) -> bytes:
    """An attribute of four bytes, host order."""
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    """A zero-terminated text attribute."""
    return attribute(kind, value.encode() + b"\0")


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by type; of repeated ones the last. Malformed tails are dropped."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > len(data):
            break
        found[kind & _NLA_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += length + (-length % 4)
    return found


class NetlinkSocket:
    """A netlink socket of the calling thread's network namespace.

    Attributes:
        protocol: NETLINK_ROUTE (0) or NETLINK_NETFILTER (12).
    """

    def __init__(self, protocol: int = 0) -> None:
        self.protocol = protocol
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._socket.bind((0, 0))
            self._socket.settimeout(_ANSWER_TIMEOUT)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            if protocol == 0:
                self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        except OSError:
            self._socket.close()
            raise
        self._sequence = 0

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def execute(self, requests: Sequence[Request]) -> None:
        """Run all requests in order, even after one failed.

        Raises:
            NetlinkError: of the first that failed.
        """
        for error in self.try_all(requests):
            if error is not None:
                raise error

    def try_all(self, requests: Sequence[Request]) -> list[NetlinkError | None]:
        """Run all requests in order; for each what the kernel refused, or None."""
        results: list[NetlinkError | None] = []
        batch: list[Request] = []
        size = 0
        for request in requests:
            if batch and (size + len(request.payload) + 32 > _BATCH_BYTES or len(batch) == _BATCH_REQUESTS):
                results += self._run_batch(batch)
                batch, size = [], 0
            batch.append(request)
            size += len(request.payload) + 32
        if batch:
            results += self._run_batch(batch)
        return results

    def _run_batch(self, batch: list[Request]) -> list[NetlinkError | None]:
        first = self._sequence + 1
        self._send((request, request.flags | NLM_F_ACK) for request in batch)
        results: list[NetlinkError | None] = [None] * len(batch)
        waiting = len(batch)
        while waiting:
            for kind, flags, sequence, body in self._receive():
                index = sequence - first
                if kind != _NLMSG_ERROR or not 0 <= index < len(batch):
                    continue
                results[index] = _refusal(batch[index], flags, body)
                waiting -= 1
        return results

    def dump(self, request: Request) -> list[bytes]:
        """All messages that answer a dump request, without their headers. A dump that the kernel marks as
        interrupted by a change is taken again.

        Raises:
            NetlinkError: the kernel refused it.
        """
        for attempt in range(_DUMP_ATTEMPTS):
            bodies, interrupted = self._dump_once(request)
            if not interrupted or attempt == _DUMP_ATTEMPTS - 1:
                return bodies
        raise AssertionError("unreachable")

    def _dump_once(self, request: Request) -> tuple[list[bytes], bool]:
        self._send([(request, request.flags | NLM_F_DUMP)])
        wanted = self._sequence
        bodies: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence != wanted:
                    continue
                if flags & 0x10:  # NLM_F_DUMP_INTR
                    interrupted = True
                if kind == _NLMSG_DONE:
                    return bodies, interrupted
                if kind == _NLMSG_ERROR:
                    refused = _refusal(request, flags, body)
                    if refused is not None:
                        raise refused
                    return bodies, interrupted
                bodies.append(body)

    def get(self, request: Request) -> bytes | None:
        """The one message that answers a query; None when the error is tolerated (nothing there).

        Raises:
            NetlinkError: the kernel refused it.
        """
        self._send([(request, request.flags | NLM_F_ACK)])
        wanted = self._sequence
        answer: bytes | None = None
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence != wanted:
                    continue
                if kind != _NLMSG_ERROR:
                    answer = body
                    continue
                refused = _refusal(request, flags, body)
                if refused is not None:
                    raise refused
                return answer

    def _send(self, requests: Iterable[tuple[Request, int]]) -> None:
        parts: list[bytes] = []
        for request, flags in requests:
            self._sequence += 1
            payload = request.payload
            parts.append(
                _HEADER.pack(16 + len(payload), request.type, flags | NLM_F_REQUEST, self._sequence, 0)
                + payload
                + b"\0" * (-len(payload) % 4)
            )
        try:
            self._socket.send(b"".join(parts))
        except OSError as error:
            raise NetlinkError("send to the kernel", error.errno or errno.EIO) from error

    def _receive(self) -> list[tuple[int, int, int, bytes]]:
        try:
            data = self._socket.recv(_RECEIVE_SIZE)
        except TimeoutError:
            raise NetlinkError("netlink", errno.ETIMEDOUT, "the kernel did not answer") from None
        except OSError as error:
            raise NetlinkError("receive from the kernel", error.errno or errno.EIO) from error
        messages: list[tuple[int, int, int, bytes]] = []
        offset = 0
        while offset + 16 <= len(data):
            length, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
            if length < 16:
                break
            messages.append((kind, flags, sequence, data[offset + 16 : offset + length]))
            offset += length + (-length % 4)
        return messages


def _refusal(request: Request, flags: int, body: bytes) -> NetlinkError | None:
    code = -struct.unpack_from("=i", body)[0]
    if code == 0 or code in request.tolerated:
        return None
    detail = ""
    if flags & _NLM_F_ACK_TLVS:
        # The refused message's header follows the code; its payload too unless the answer is capped.
        (length,) = struct.unpack_from("=I", body, 4)
        start = 4 + (16 if flags & _NLM_F_CAPPED else length + (-length % 4))
        message = parse_attributes(body[start:]).get(_NLMSGERR_ATTR_MSG, b"")
        detail = message.rstrip(b"\0").decode(errors="replace")
    return NetlinkError(request.what, code, detail)
