"""A machine made of namespaces: ``host``, where the data plane under test works, and ``outside``, a client beyond it.

Functions run inside a namespace in a thread of their own; nothing is made in the namespace the tests were started in.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from enxame.testing.promises import allowed

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

HOST = "192.0.2.1"
OUTSIDE = "192.0.2.9"


def _enter(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Lab:
    """The two namespaces, joined by a link."""

    def __init__(self, *, router: bool = False) -> None:
        self._inside: list[int] = []
        self.host = self._make()
        self.run(self.host, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text(str(int(router))))
        self.outside = self._make()
        commands = [
            f"ip link add up0 type veth peer name eth0 netns /proc/{os.getpid()}/fd/{self.outside}",
            f"ip addr add {HOST}/24 dev up0",
            "ip link set up0 up",
            "ip link set lo up",
        ]
        for command in commands:
            self.command(self.host, command)
        for command in (
            f"ip addr add {OUTSIDE}/24 dev eth0",
            "ip link set eth0 up",
            "ip link set lo up",
            f"ip route add 172.16.0.0/12 via {HOST}",
        ):
            self.command(self.outside, command)

    @staticmethod
    def _make() -> int:
        def work() -> int:
            assert _libc.unshare(_CLONE_NEWNET) == 0
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

        with ThreadPoolExecutor(1) as executor:
            return executor.submit(work).result()

    def close(self) -> None:
        os.close(self.host)
        os.close(self.outside)

    def run(self, namespace: int | str, function: Callable[[], T]) -> T:
        """``function`` in a namespace (descriptor or path), in a thread of its own."""

        def work() -> T:
            fd = namespace if isinstance(namespace, int) else os.open(namespace, os.O_RDONLY)
            try:
                _enter(fd)
            finally:
                if fd != namespace:
                    os.close(fd)
            return function()

        with ThreadPoolExecutor(1) as executor:
            return executor.submit(work).result()

    def command(self, namespace: int | str, command: str) -> str:
        """A command's output, run in a namespace."""

        def work() -> str:
            done = subprocess.run(
                command.split(), capture_output=True, text=True, timeout=20, check=False, pass_fds=(self_fds(self))
            )
            assert done.returncode == 0, f"{command}: {done.stderr}"
            return done.stdout

        return self.run(namespace, work)

    def within_host(self) -> contextlib.AbstractContextManager[None]:
        """The event loop's thread, and threads that it starts, are in the ``host`` namespace."""
        return self.within(self.host)

    @contextlib.contextmanager
    def within(self, namespace: int) -> Iterator[None]:
        """The event loop's thread, and threads that it starts, are in that namespace. Tasks may be inside at the same
        time, and leave in any order: the last one brings the thread home.
        """
        if not self._inside:
            self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._inside.append(namespace)
        try:
            _enter(namespace)
            yield
        finally:
            self._inside.remove(namespace)
            _enter(self._inside[-1] if self._inside else self._home)
            if not self._inside:
                os.close(self._home)


def self_fds(lab: Lab) -> tuple[int, ...]:
    return tuple(fd for fd in (getattr(lab, "host", -1), getattr(lab, "outside", -1)) if fd >= 0)


class Server:
    """Answers every TCP connection or UDP datagram with ``name client-address``, in a namespace."""

    def __init__(
        self, lab: Lab, namespace: int | str, port: int, name: str, *, protocol: str = "tcp", six: bool = False
    ) -> None:
        self.name = name
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM

        def listen() -> socket.socket:
            listening = socket.socket(socket.AF_INET6 if six else socket.AF_INET, kind)
            if six:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind(("::" if six else "0.0.0.0", port))
                if protocol == "tcp":
                    listening.listen(256)
            except OSError:
                listening.close()
                raise
            return listening

        self._socket = lab.run(namespace, listen)
        self.port = self._socket.getsockname()[1]
        self._answering: dict[threading.Thread, socket.socket] = {}
        self._thread = threading.Thread(target=self._serve if protocol == "tcp" else self._echo, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, client = self._socket.accept()
                thread = threading.Thread(target=self._answer, args=(connection, client[0]), daemon=True)
                self._answering[thread] = connection
                thread.start()

    def _answer(self, connection: socket.socket, client: str) -> None:
        with connection, contextlib.suppress(OSError):
            while connection.recv(100):
                connection.sendall(f"{self.name} {client}".encode())

    def _echo(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                _, client = self._socket.recvfrom(100)
                if client is None:  # shut down
                    return
                self._socket.sendto(f"{self.name} {client[0]}".encode(), client)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)
        for thread, connection in self._answering.items():
            with contextlib.suppress(OSError):  # it has ended
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def connect(address: str, port: int, timeout: float = 3) -> socket.socket:
    return socket.create_connection((address, port), timeout=timeout)


def ask_on(connection: socket.socket) -> tuple[str, str]:
    connection.sendall(b"?")
    name, client = connection.recv(100).decode().split()
    return name, client


def ask(address: str, port: int, timeout: float = 3) -> tuple[str, str]:
    """Who answers, and which client address he saw."""
    with connect(address, port, timeout) as connection:
        return ask_on(connection)


def ask_udp(address: str, port: int, timeout: float = 3) -> tuple[str, str]:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(timeout)
        client.connect((address, port))
        return ask_on(client)


def eventually(condition: Callable[[], bool], timeout: float = 5) -> bool:
    deadline = time.monotonic() + allowed(timeout)
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def links(lab: Lab, namespace: int) -> set[str]:
    return {line.split()[0].split("@")[0] for line in lab.command(namespace, "ip -br link").splitlines()}


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()
