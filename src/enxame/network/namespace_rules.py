"""Rules inside containers' namespaces, by messages: for one namespace or for many, in one worker thread.

Each namespace's change is one transaction. Namespaces that are gone meanwhile are passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from enxame.errors import EnxameError
from enxame.network import conntrack, nft_messages
from enxame.network.namespaces import entered, is_namespace
from enxame.network.netlink import NETFILTER, NetlinkError, NetlinkSocket, Request
from enxame.network.nft_messages import Message
from enxame.network.rtnetlink import Address

_log = logging.getLogger(__name__)
T = TypeVar("T")

_SO_SNDBUFFORCE: Final = 32
_NLMSG_ERROR: Final = 2
_ANSWER_TIMEOUT: Final = 10.0
_RECEIVE_SIZE: Final = 1 << 16
_ROOM: Final = 1 << 16
_LIBERAL: Final = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")

_answer = struct.Struct("=IHHIIi")


class _Closable(Protocol):
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Change:
    """What to do in the namespace at ``path``. ``transaction`` is made by :func:`transaction_of`. ``routes`` are for
    its routing tables. Afterwards what need not stay with ``turned`` addresses is forgotten
    (:func:`enxame.network.conntrack.turn_away_from`), and all connections that go to ``gone`` ones: the next packet
    finds another way. ``tracks``: connections begin to be tracked here.
    """

    path: Path
    transaction: bytes = b""
    routes: Sequence[Request] = ()
    turned: Collection[Address] = ()
    gone: Collection[Address] = ()
    tracks: bool = False


class NamespaceRules:
    """See the module. The thread belongs to the network namespace that :meth:`start` is called in."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="enxame-rules")
        # Closing a socket waits until what was deleted through it is freed: ten milliseconds.
        self._closer = ThreadPoolExecutor(1, thread_name_prefix="enxame-rules-end")

    async def start(self) -> None:
        """Threads take the network namespace of who starts them."""
        await self._call(lambda: None)
        await asyncio.get_running_loop().run_in_executor(self._closer, lambda: None)

    async def stop(self) -> None:
        """Finish what was asked for. The rules stay."""
        await asyncio.to_thread(self._executor.shutdown)
        await asyncio.to_thread(self._closer.shutdown)

    async def apply(self, changes: Sequence[Change]) -> list[Path]:
        """Make changes, one namespace after the other; where the kernel refused one (it is in the log): all of it, or
        what comes after the rules.
        """
        return await self._call(lambda: self._apply(changes)) if changes else []

    async def inside(self, path: Path, transaction: bytes, also: Callable[[], T]) -> T:
        """Apply a transaction in the namespace at ``path``, then do what ``also`` does there; returns what it does.

        Raises:
            EnxameError: there is no such namespace, or the kernel refuses.
            OSError: from ``also``.
        """

        def work() -> T:
            used: list[_Closable] = []
            try:
                with entered(path):
                    _apply(Change(path, transaction), used)
                    return also()
            finally:
                self._closer.submit(_close, used)

        return await self._call(work)

    def _apply(self, changes: Sequence[Change]) -> list[Path]:
        used: list[_Closable] = []
        try:
            return [change.path for change in changes if not _try(change, used)]
        finally:
            self._closer.submit(_close, used)

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def _close(sockets: Iterable[_Closable]) -> None:
    for used in sockets:
        used.close()


def _try(change: Change, used: list[_Closable]) -> bool:
    if not is_namespace(change.path):
        return True
    try:
        with entered(change.path):
            _apply(change, used)
    except (EnxameError, OSError) as error:
        if not is_namespace(change.path):
            return True  # it went meanwhile
        _log.error("rules in the namespace %s: %s", change.path, error)
        return False
    return True


def _apply(change: Change, used: list[_Closable]) -> None:
    if change.tracks:
        # A packet out of its window is the receiver's business: dropping it here would hang the connection.
        with contextlib.suppress(OSError):
            _LIBERAL.write_text("1")
    if change.transaction:
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER)
        used.append(kernel)
        kernel.bind((0, 0))
        kernel.settimeout(_ANSWER_TIMEOUT)
        send(kernel, change.transaction)
    if change.routes:
        route = NetlinkSocket()
        try:
            route.execute(change.routes)
        finally:
            route.close()
    if change.turned or change.gone:
        tracked = NetlinkSocket(NETFILTER)
        used.append(tracked)
        conntrack.turn_away_from(tracked, change.turned)
        conntrack.forget_answers_from(tracked, change.gone)


def send(kernel: socket.socket, transaction: bytes) -> None:
    """Apply a transaction in the namespace of the socket; wholly or not at all.

    Raises:
        NetlinkError: refused.
    """
    if len(transaction) > _ROOM:
        kernel.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * len(transaction))
    try:
        kernel.send(transaction)
        while True:
            data = kernel.recv(_RECEIVE_SIZE)
            offset = 0
            while offset + _answer.size <= len(data):
                length, kind, _, _, _, code = _answer.unpack_from(data, offset)
                # Only the last message asks for an answer: whatever comes first decides.
                if kind == _NLMSG_ERROR:
                    if code:
                        raise NetlinkError("change rules", -code)
                    return
                offset += max(length + (-length % 4), 16)
    except TimeoutError:
        raise NetlinkError("change rules", errno.ETIMEDOUT, "the kernel did not answer") from None


def transaction_of(messages: Sequence[Message]) -> bytes:
    """To send; empty for no messages."""
    return nft_messages.transaction(messages) if messages else b""
