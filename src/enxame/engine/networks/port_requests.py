"""Which host ports a container asks for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from enxame.errors import InvalidArgument
from enxame.model.container import PortBinding
from enxame.model.natural import natural
from enxame.network.held_ports import HostAddress
from enxame.network.ports import PROTOCOLS


@dataclass(frozen=True, slots=True)
class PortRequest:
    """``container_port`` is to be reachable through one host port of ``first``…``last`` (0, 0: any free one).

    ``host_ip`` None: on every address of this machine; 0.0.0.0 and ::, on all of one version of IP.
    """

    container_port: int
    protocol: str
    host_ip: HostAddress | None
    first: int
    last: int

    @property
    def key(self) -> str:
        """As the API writes it: ``80/tcp``."""
        return f"{self.container_port}/{self.protocol}"


def parse_requests(
    bindings: Mapping[str, Sequence[PortBinding]],
    exposed: Iterable[str],
    *,
    publish_all: bool,
    default_ip: HostAddress | None = None,
) -> list[PortRequest]:
    """All that a container wants published, in the order it was given.

    ``default_ip`` is the network's address for bindings that name none.

    Raises:
        InvalidArgument: a port, protocol, range or address is none.
    """
    wanted: list[PortRequest] = []
    for key, places in bindings.items():
        port, protocol = parse_port(key)
        for place in places or [PortBinding()]:
            first, last = _host_range(place.host_port)
            wanted.append(PortRequest(port, protocol, _host_ip(place.host_ip, default_ip), first, last))
    if publish_all:
        bound = {request.key for request in wanted}
        for key in exposed:
            port, protocol = parse_port(key)
            if f"{port}/{protocol}" not in bound:
                wanted.append(PortRequest(port, protocol, default_ip, 0, 0))
    return wanted


def parse_port(key: str) -> tuple[int, str]:
    """``80/tcp`` or ``80`` to number and protocol.

    Raises:
        InvalidArgument: it is neither.
    """
    number, _, protocol = key.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidArgument(f"invalid port specification {key!r}: invalid protocol {protocol!r}")
    return _number(number, key), protocol


def _number(text: str, whole: str) -> int:
    number = natural(text)
    if number is None or not 1 <= number <= 65535:
        raise InvalidArgument(f"invalid port specification: {whole!r}")
    return number


def _host_range(text: str) -> tuple[int, int]:
    if text in ("", "0"):
        return 0, 0
    start, dash, end = text.partition("-")
    first = _number(start, text)
    last = _number(end, text) if dash else first
    if last < first:
        raise InvalidArgument(f"invalid port specification: {text!r}: the range ends before it begins")
    return first, last


def _host_ip(text: str, default: HostAddress | None) -> HostAddress | None:
    if not text:
        return default
    try:
        return ip_address(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid IP address in port binding: {text}") from error
