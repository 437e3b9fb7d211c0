"""Published container ports as elements of the table's maps. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from enxame.network import ruleset

PROTOCOLS: Final = ("tcp", "udp", "sctp")


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """``host_port`` of this machine leads to ``target``. ``host_ip`` None: whatever address of this machine, of the
    target's version of IP. A target of another version than ``host_ip`` is none of the packet filter's.
    """

    protocol: str
    host_ip: IPv4Address | IPv6Address | None
    host_port: int
    target_ip: IPv4Address | IPv6Address
    target_port: int

    @property
    def filtered(self) -> bool:
        """Whether the packet filter leads there."""
        return self.host_ip is None or self.host_ip.version == self.target_ip.version

    @property
    def map_name(self) -> str:
        """The map that it is an element of."""
        family = "" if self.target_ip.version == 4 else "6"
        return f"published{family}{'' if self.host_ip is None or self.host_ip.is_unspecified else '_at'}"


def publish(ports: Iterable[PublishedPort]) -> str:
    """The text that adds the ports."""
    return _change("add", ports, lambda port: f"{_key(port)} : {port.target_ip} . {port.target_port}")


def unpublish(ports: Iterable[PublishedPort]) -> str:
    """The text that takes the ports away."""
    return _change("delete", ports, _key)


def _change(verb: str, ports: Iterable[PublishedPort], element: Callable[[PublishedPort], str]) -> str:
    maps: dict[str, list[str]] = {}
    for port in ports:
        if port.filtered:
            maps.setdefault(port.map_name, []).append(element(port))
    return "".join(ruleset.change(verb, name, elements) for name, elements in sorted(maps.items()))


def _key(port: PublishedPort) -> str:
    place = f"{port.protocol} . {port.host_port}"
    return f"{port.host_ip} . {place}" if port.map_name.endswith("_at") else place
