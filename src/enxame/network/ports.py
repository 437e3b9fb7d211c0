"""Published container ports as elements of the table's two maps. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from enxame.network import ruleset

PROTOCOLS: Final = ("tcp", "udp", "sctp")


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """``host_port`` of this machine leads to ``target``. ``host_ip`` None: whatever address of this machine."""

    protocol: str
    host_ip: IPv4Address | None
    host_port: int
    target_ip: IPv4Address
    target_port: int


def publish(ports: Iterable[PublishedPort]) -> str:
    """The text that adds the ports."""
    any_address: list[str] = []
    one_address: list[str] = []
    for port in ports:
        key, value = _key(port), f"{port.target_ip} . {port.target_port}"
        (any_address if port.host_ip is None else one_address).append(f"{key} : {value}")
    return ruleset.change("add", "published", any_address) + ruleset.change("add", "published_at", one_address)


def unpublish(ports: Iterable[PublishedPort]) -> str:
    """The text that takes the ports away."""
    ports = list(ports)
    return ruleset.change("delete", "published", [_key(port) for port in ports if port.host_ip is None]) + (
        ruleset.change("delete", "published_at", [_key(port) for port in ports if port.host_ip is not None])
    )


def _key(port: PublishedPort) -> str:
    place = f"{port.protocol} . {port.host_port}"
    return place if port.host_ip is None else f"{port.host_ip} . {place}"
