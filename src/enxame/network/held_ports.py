"""Ports of this machine that are ours: found free by really binding them, and kept from others by staying bound.

The sockets are bound, not listening: the packet filter takes connections before any socket sees them, and should a
rule be missing, clients are refused at once instead of hanging in a queue nobody serves.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from enxame.errors import EnxameError
from enxame.network.relay import NewSocket, Relay, listen
from enxame.network.udp_relay import UdpRelay, bind_udp

_log = logging.getLogger(__name__)

_ANY: Final = IPv4Address(0)
_ANY6: Final = IPv6Address(0)
#: One of this machine's addresses, or all of one version of IP.
HostAddress = IPv4Address | IPv6Address
_ATTEMPTS: Final = 8
_KINDS: Final = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}


class PortTaken(EnxameError):
    """The port is in use; the message is Docker's, without the endpoint."""


@dataclass(frozen=True, slots=True)
class HeldPort:
    """A port that is ours until it is given back. ``host_ip`` None: on every address. ``over_ipv6``: it is open on IPv6
    addresses, too.
    """

    protocol: str
    host_ip: HostAddress | None
    port: int
    number: int
    over_ipv6: bool = False


class HeldPorts:
    """All ports that this daemon holds. Use from one thread.

    With ``new_socket`` (see :mod:`enxame.network.relay`) ports of every address are those of IPv6 addresses, too.
    """

    def __init__(self, new_socket: NewSocket | None = None) -> None:
        self._new_socket = new_socket
        self._relays: dict[HeldPort, Relay | UdpRelay] = {}
        self._sockets: dict[HeldPort, socket.socket | None] = {}
        self._by_port: dict[tuple[str, int], set[HeldPort]] = {}
        self._next = 0

    def hold(
        self,
        protocol: str,
        host_ip: HostAddress | None,
        port: int,
        *,
        insist: bool = False,
        target: tuple[str, int] | None = None,
    ) -> HeldPort:
        """Take a port; 0 is any free one of the kernel's ephemeral range.

        ``insist``: the port was ours before this daemon was restarted and its rules still are in the kernel; when
        somebody else bound it meanwhile, say so in the log and go on. ``target``: where what comes to an IPv6 address
        is carried; by default to the same port of this machine.

        Raises:
            PortTaken: another container, service or program has it, or the address is not this machine's.
        """
        for _ in range(_ATTEMPTS if port == 0 else 0):
            # One that is free for IPv4 may not be for IPv6.
            with contextlib.suppress(PortTaken):
                return self._hold(protocol, host_ip, 0, insist, target)
        return self._hold(protocol, host_ip, port, insist, target)

    def _hold(
        self, protocol: str, host_ip: HostAddress | None, port: int, insist: bool, target: tuple[str, int] | None
    ) -> HeldPort:
        self._check_ours(protocol, host_ip, port)
        if isinstance(host_ip, IPv6Address):
            return self._hold6(protocol, host_ip, port, insist, target)
        bound: socket.socket | None = None
        try:
            bound = _bind(protocol, host_ip, port)
        except PortTaken as error:
            if not insist:
                raise
            _log.warning("a published port was taken by another program while the daemon was away: %s", error)
        if port == 0:
            if bound is None:
                raise PortTaken(f"protocol {protocol} is not supported by the kernel: give the host port")
            port = bound.getsockname()[1]
        relay = None
        try:
            if host_ip is None:
                relay = self._relay(protocol, _ANY6, port, ("127.0.0.1", port))
        except OSError as error:
            if not insist:
                if bound is not None:
                    bound.close()
                raise PortTaken(error.strerror or str(error)) from error
            _log.warning("a published port does not answer over IPv6: %s", error.strerror)
        self._next += 1
        held = HeldPort(protocol, host_ip, port, self._next, relay is not None)
        self._keep(held, bound, relay)
        return held

    def _hold6(
        self, protocol: str, host_ip: IPv6Address, port: int, insist: bool, target: tuple[str, int] | None
    ) -> HeldPort:
        relay = None
        try:
            if port == 0:
                port = _free_port6(protocol, host_ip)
            relay = self._relay(protocol, host_ip, port, target or ("127.0.0.1", port))
        except OSError as error:
            if not insist:
                raise PortTaken(error.strerror or str(error)) from error
            _log.warning("a published port was taken by another program while the daemon was away: %s", error.strerror)
        if relay is None and not insist:
            raise PortTaken(f"listen {protocol}6 [{host_ip}]:{port}: this machine cannot carry it over IPv6")
        self._next += 1
        held = HeldPort(protocol, host_ip, port, self._next, True)
        self._keep(held, None, relay)
        return held

    def _keep(self, held: HeldPort, bound: socket.socket | None, relay: Relay | UdpRelay | None) -> None:
        self._sockets[held] = bound
        if relay is not None:
            self._relays[held] = relay
        self._by_port.setdefault((held.protocol, held.port), set()).add(held)

    def give_back(self, held: HeldPort) -> None:
        """Idempotent."""
        if held not in self._sockets:
            return
        if (relay := self._relays.pop(held, None)) is not None:
            relay.close()
        bound = self._sockets.pop(held)
        if bound is not None:
            bound.close()
        peers = self._by_port[held.protocol, held.port]
        peers.discard(held)
        if not peers:
            del self._by_port[held.protocol, held.port]

    def close(self) -> None:
        """Give everything back."""
        for held in list(self._sockets):
            self.give_back(held)

    def _relay(
        self, protocol: str, host_ip: IPv6Address, port: int, target: tuple[str, int]
    ) -> Relay | UdpRelay | None:
        if self._new_socket is None:
            return None
        if protocol == "tcp":
            listening = listen(port, str(host_ip))
            return Relay(listening, target, self._new_socket) if listening is not None else None
        if protocol == "udp":
            bound = bind_udp(str(host_ip), port)
            return UdpRelay(bound, target, self._new_socket) if bound is not None else None
        return None

    def _check_ours(self, protocol: str, host_ip: HostAddress | None, port: int) -> None:
        for other in self._by_port.get((protocol, port), ()) if port else ():
            if _meet(host_ip, other.host_ip):
                shown = f"[{host_ip}]" if isinstance(host_ip, IPv6Address) else host_ip or _ANY
                raise PortTaken(f"Bind for {shown}:{port} failed: port is already allocated")


def _meet(one: HostAddress | None, other: HostAddress | None) -> bool:
    """Whether a port of one is one of the other."""
    if one is None or other is None:
        return True
    return one.version == other.version and (one == other or one.is_unspecified or other.is_unspecified)


def _free_port6(protocol: str, host_ip: IPv6Address) -> int:
    """A port that is free for an IPv6 address. Raises OSError."""
    with socket.socket(socket.AF_INET6, _KINDS[protocol][0] | socket.SOCK_CLOEXEC) as probe:
        probe.bind((str(host_ip), 0))
        return int(probe.getsockname()[1])


def _bind(protocol: str, host_ip: IPv4Address | None, port: int) -> socket.socket | None:
    kind, number = _KINDS[protocol]
    try:
        bound = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC, number)
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            return None  # no program of this machine can take such a port either
        raise PortTaken(f"listen {protocol}4 {host_ip or _ANY}:{port}: {error.strerror}") from error
    try:
        if protocol != "udp":
            # To pass connections in TIME_WAIT of a server that ended ...
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            # What slips past the rules is dropped, not kept.
            with contextlib.suppress(OSError):
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        bound.bind((str(host_ip or _ANY), port))
        # ... but nobody with the same option may bind beside us.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError as error:
        bound.close()
        reason = os.strerror(error.errno or 0).lower()
        raise PortTaken(f"listen {protocol}4 {host_ip or _ANY}:{port}: bind: {reason}") from error
    return bound
