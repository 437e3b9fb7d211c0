"""Connections with many packets through a machine's published ports, and what its packet filter sees of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from enxame.network.shortcuts.flow import Flow
from enxame.network.shortcuts.kernel_side import KernelSide
from tests.engine.network_lab import HOST, Lab, connect, eventually
from tests.engine.network_machine import Machine

#: Who sends this, alone, is answered with a reset.
RESET = b"reset, please"
#: A value of SO_LINGER.
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
_PIECE = 1 << 16


class Echo:
    """Sends back what it gets; when the other half has ended it says its last words and ends its half, too."""

    def __init__(
        self, lab: Lab, namespace: int | str, port: int, *, six: bool = False, last_words: bytes = b""
    ) -> None:
        self._last_words = last_words
        self.connections: list[socket.socket] = []

        def listen() -> socket.socket:
            return socket.create_server(
                ("::" if six else "", port), family=socket.AF_INET6 if six else socket.AF_INET, backlog=1024
            )

        self._socket = lab.run(namespace, listen)
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    @property
    def clients(self) -> set[str]:
        """Whose connections are open."""
        return {connection.getpeername()[0] for connection in self.connections}

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections.append(connection)
                self._threads.append(threading.Thread(target=self._echo, args=(connection,), daemon=True))
                self._threads[-1].start()

    def _echo(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := connection.recv(_PIECE):
                if piece == RESET:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
                    connection.close()
                    return
                connection.sendall(piece)
            connection.sendall(self._last_words)
            connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for opened in (self._socket, *self.connections):
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for opened in (self._socket, *self.connections):
            opened.close()


def exchange(connection: socket.socket, size: int, piece: int) -> None:
    """``size`` bytes there and back, sent in pieces; they come back as they were."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sent, got = hashlib.sha256(), hashlib.sha256()

    def send() -> None:
        left = size
        while left > 0:
            data = os.urandom(min(piece, left))
            sent.update(data)
            connection.sendall(data)
            left -= len(data)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    left = size
    while left > 0:
        data = connection.recv(min(left, 1 << 20))
        assert data, f"{left} bytes are missing"
        got.update(data)
        left -= len(data)
    sender.join(10)
    assert got.digest() == sent.digest()


def ping(connection: socket.socket, times: int) -> None:
    """So many small questions, each answered before the next."""
    for _ in range(times):
        connection.sendall(b"?")
        assert connection.recv(100)


def kernel_side(machine: Machine) -> KernelSide | None:
    return machine.manager._dataplane._shortcuts._kernel


def flows(machine: Machine) -> list[Flow]:
    """What takes a shortcut, and what has lately."""
    while (kernel := kernel_side(machine)) is not None:
        with contextlib.suppress(RuntimeError):  # changed by another thread meanwhile
            return list(kernel.flows)
    return []


def has_shortcut(machine: Machine, connection: socket.socket) -> bool:
    port = connection.getsockname()[1]
    return any(flow.client.port == port for flow in flows(machine))


def make_busy(machine: Machine, connection: socket.socket, talk: Callable[[], None] | None = None) -> None:
    """Until it takes a shortcut; ``talk``: another way to make packets than questions."""

    def busy() -> bool:
        if talk is not None:
            talk()
        else:
            ping(connection, 100)
        return has_shortcut(machine, connection)

    assert eventually(busy, 10), "the connection takes no shortcut"


def open_connection(machine: Machine, address: str = HOST, port: int = 8080, source: int = 0) -> socket.socket:
    """From outside."""

    def work() -> socket.socket:
        if not source:
            return connect(address, port, 10)
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.settimeout(10)
            made.bind(("", source))
            made.connect((address, port))
        except OSError:
            made.close()
            raise
        return made

    return machine.lab.run(machine.lab.outside, work)


class Seen:
    """Counts what passes the filter's chain for forwarded packets, after all rules of ours."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        for command in (
            "nft add table inet probe",
            "nft add chain inet probe forward { type filter hook forward priority 10 ; }",
            "nft add rule inet probe forward counter",
        ):
            machine.lab.command(machine.lab.host, command)

    @property
    def packets(self) -> int:
        text = self._machine.lab.command(self._machine.lab.host, "nft -j list chain inet probe forward")
        (rule,) = [item["rule"] for item in json.loads(text)["nftables"] if "rule" in item]
        return int(rule["expr"][0]["counter"]["packets"])

    @contextlib.contextmanager
    def at_most(self, packets: int) -> Iterator[None]:
        """No more are seen in the block."""
        before = self.packets
        yield
        assert self.packets - before <= packets


def tracked(machine: Machine, connection: socket.socket | int) -> str:
    """The machine's entry of a connection from outside, as ``conntrack`` shows it; empty when there is none."""
    port = connection if isinstance(connection, int) else connection.getsockname()[1]
    text = "".join(
        machine.lab.command(machine.lab.host, f"conntrack -L -f {family} -p tcp --orig-port-src {port}")
        for family in ("ipv4", "ipv6")
    )
    return text.strip()
