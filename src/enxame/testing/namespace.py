"""Network namespaces of a test's own: daemons run in them, so that the host's network is left alone."""

import ctypes
import itertools
import json
import os
import socket
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

CLONE_NEWNET: Final = 0x40000000
NAMED_NAMESPACES: Final = Path("/run/netns")

_counter = itertools.count(1)


def run(*argv: str, timeout: float = 30) -> str:
    """Run a command to its end and return its standard output; what it said of a failure goes into the exception."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(argv)}: exit code {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


def enter_network_namespace(path: str) -> None:
    """Move the calling thread into the network namespace at *path*."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


class NetworkNamespace:
    """A named network namespace with loopback up. Sockets can be opened in it from here: they stay in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = str(NAMED_NAMESPACES / name)
        run("ip", "netns", "add", name)
        self._inside = ThreadPoolExecutor(1, f"in-{name}", initializer=enter_network_namespace, initargs=(self.path,))
        self.ip("link", "set", "lo", "up")

    def argv(self, *argv: str) -> list[str]:
        """The command line that runs *argv* in here. Not `ip netns exec`: that hides the cgroups."""
        return ["nsenter", f"--net={self.path}", "--", *argv]

    def run(self, *argv: str, timeout: float = 30) -> str:
        """Run a command in here to its end."""
        return run(*self.argv(*argv), timeout=timeout)

    def ip(self, *argv: str) -> str:
        """Run an `ip` command on this namespace."""
        return run("ip", "-n", self.name, *argv)

    def open_socket(
        self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0
    ) -> socket.socket:
        """A new socket that lives in this namespace, to be used from anywhere."""
        return self._inside.submit(socket.socket, family, kind, protocol).result(10)

    def connect(self, address: str, port: int, timeout: float = 5) -> socket.socket:
        """A TCP connection that starts in this namespace."""
        made = self.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        made.settimeout(timeout)
        try:
            host, _, scope = address.partition("%")  # a link-local one, and the number of its link
            made.connect((host, port, 0, int(scope)) if scope else (host, port))
        except BaseException:
            made.close()
            raise
        return made

    def http_get(self, address: str, port: int, path: str = "/", timeout: float = 5) -> str:
        """The body of the answer to one HTTP request on a connection of its own. OSError for anything but a 200."""
        with self.connect(address, port, timeout) as connection:
            host = f"[{address.partition('%')[0]}]" if ":" in address else address
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        if not answer:
            raise ConnectionResetError(f"{address}:{port}{path} closed without an answer")
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise OSError(f"{address}:{port}{path} answered {head[:80]!r}")
        return body.decode()

    def close(self) -> None:
        """Remove the namespace; it goes when the last process in it ends."""
        self._inside.shutdown()
        run("ip", "netns", "delete", self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HostAndOutside:
    """A namespace that stands for a host, and one that stands for the world outside it, with a cable between them.

    The host has one address that is not loopback, so `swarm init` finds it by itself. There is no default route.
    """

    host_address: Final = "10.99.0.1"
    outside_address: Final = "10.99.0.2"

    def __init__(self, name: str) -> None:
        unique = f"{name}-{os.getpid()}-{next(_counter)}"
        self.host = NetworkNamespace(f"{unique}-host")
        try:
            self.outside = NetworkNamespace(f"{unique}-out")
        except BaseException:
            self.host.close()
            raise
        run(
            "ip",
            "-n",
            self.host.name,
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            self.outside.name,
        )
        for namespace, address in ((self.host, self.host_address), (self.outside, self.outside_address)):
            namespace.ip("address", "add", f"{address}/24", "dev", "eth0")
            namespace.ip("link", "set", "eth0", "up")

    def close(self) -> None:
        """Remove both, and with them the cable."""
        self.outside.close()
        self.host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LanHost:
    """A machine on a :class:`Lan`: a namespace with one address that is not loopback."""

    def __init__(self, lan: "Lan", number: int) -> None:
        self.hostname = f"node{number}"
        self.host_address = f"10.98.0.{number}"
        self._switch = lan.switch
        #: The switch's end of the cable.
        self.port = f"port{number}"
        self.host = NetworkNamespace(f"{lan.name}-{number}")
        try:
            peer = ("peer", "name", "eth0", "netns", self.host.name)
            self._switch.ip("link", "add", self.port, "type", "veth", *peer)
            self._switch.ip("link", "set", self.port, "master", "lan", "up")
            self.host.ip("address", "add", f"{self.host_address}/24", "dev", "eth0")
            self.host.ip("link", "set", "eth0", "up")
        except BaseException:
            self.host.close()
            raise

    def cut(self) -> None:
        """Pull the cable: nobody is told."""
        self._switch.ip("link", "set", self.port, "nomaster")

    def cut_from(self, *others: "LanHost") -> None:
        """Nothing goes to or comes from these machines any more; nobody is told."""
        mine, theirs = f'"{self.port}"', ", ".join(f'"{other.port}"' for other in others)
        away, back = f"iifname {mine} oifname {{ {theirs} }} drop;", f"oifname {mine} iifname {{ {theirs} }} drop;"
        chain = f"chain forward {{ type filter hook forward priority 0; {away} {back} }}"
        self._switch.run("nft", f"table bridge cut-{self.port} {{ {chain}; }}")

    def heal(self) -> None:
        """Put the cable back, and let everything through."""
        self._switch.ip("link", "set", self.port, "master", "lan")
        self._switch.run("nft", f"table bridge cut-{self.port}; delete table bridge cut-{self.port}")

    def clear(self) -> None:
        """Remove what daemons left in the machine's network: rules, and links other than the cable."""
        self.host.run("nft", "flush", "ruleset")
        for link in json.loads(self.host.ip("-json", "link")):
            if link["ifname"] not in ("lo", "eth0"):
                with suppress(RuntimeError):  # tunnels of the kernel's own stay; pairs go with their other end
                    self.host.ip("link", "delete", link["ifname"])


class Lan:
    """Machines (namespaces) on one switch, a bridge in a namespace of its own. There is no route out."""

    def __init__(self, name: str) -> None:
        self.name = f"{name}-{os.getpid()}-{next(_counter)}"
        self.switch = NetworkNamespace(f"{self.name}-sw")
        self.hosts: list[LanHost] = []
        self.switch.ip("link", "add", "lan", "type", "bridge")
        self.switch.ip("link", "set", "lan", "up")

    def attach(self) -> LanHost:
        """One more machine."""
        host = LanHost(self, len(self.hosts) + 1)
        self.hosts.append(host)
        return host

    def close(self) -> None:
        """Remove all of it."""
        for host in self.hosts:
            host.host.close()
        self.switch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def mounts_below(directory: str | Path) -> list[str]:
    """The mount points below *directory*, the innermost first."""
    prefix = f"{Path(directory).resolve()}/"
    points = [
        line.split()[4].encode().decode("unicode_escape")
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    ]
    return sorted((point for point in points if point.startswith(prefix)), key=len, reverse=True)


def unmount_below(directory: str | Path) -> Sequence[str]:
    """Detach all mounts below *directory*; returns what was there."""
    found: list[str] = []
    # Those that others lie over can be reached only when these are gone.
    for _ in range(4):
        points = mounts_below(directory)
        found += points
        for point in points:
            subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
    return found
