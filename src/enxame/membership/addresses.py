"""Which address a node listens on and which it tells others (pure).

Rules and texts of moby's daemon/cluster/listen_addr.go.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from enxame.errors import InvalidArgument
from enxame.model.natural import natural

DEFAULT_LISTEN: Final = "0.0.0.0"  # Swarm's default: every address
DEFAULT_PORT: Final = 2377


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface that is up, not the loopback, and not one of the daemon's own bridges."""

    name: str
    addresses: tuple[str, ...]

    def of_family(self, version: int) -> list[str]:
        """Its global addresses of IP version 4 or 6."""
        found = [ipaddress.ip_address(address) for address in self.addresses]
        return [str(address) for address in found if address.version == version and not address.is_link_local]


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address with a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen_address(text: str, interfaces: Sequence[Interface]) -> Address:
    """``--listen-addr``: an IP or interface with an optional port; every address and 2377 by default."""
    host, port = _split(text or DEFAULT_LISTEN, DEFAULT_PORT, _BAD_LISTEN)
    return Address(_resolve(host, interfaces, _BAD_LISTEN), port)


def advertise_address(text: str, default: str, listen: Address, interfaces: Sequence[Interface]) -> Address:
    """``--advertise-addr``: as given, else the daemon's default, else where we listen, else the machine's one address.

    Raises:
        InvalidArgument: the text is no address, or there are none or several to choose from.
    """
    if text:
        host, port = _split(text, listen.port, _BAD_ADVERTISE)
        address = _resolve(host, interfaces, _BAD_ADVERTISE)
        if ipaddress.ip_address(address).is_unspecified:
            raise InvalidArgument(_BAD_ADVERTISE)
        return Address(address, port)
    if default:
        address = _resolve(default, interfaces, _BAD_DEFAULT)
        if ipaddress.ip_address(address).is_unspecified:
            raise InvalidArgument(_BAD_DEFAULT)
        return Address(address, listen.port)
    if not ipaddress.ip_address(listen.host).is_unspecified:
        return listen
    return Address(_only_address(interfaces), listen.port)


def given_advertise_address(text: str, interfaces: Sequence[Interface]) -> str:
    """``--advertise-addr`` of a node that joins (``host:port``); empty when not given: the managers see where from."""
    return str(advertise_address(text, "", Address("", DEFAULT_PORT), interfaces)) if text else ""


def data_path_address(text: str, interfaces: Sequence[Interface]) -> str:
    """``--data-path-addr``: an IP or interface; empty when not given."""
    if not text:
        return ""
    address = _resolve(text, interfaces, _BAD_DATA_PATH)
    if ipaddress.ip_address(address).is_unspecified:
        raise InvalidArgument(_BAD_DATA_PATH)
    return address


def interface_of(host: str, interfaces: Sequence[Interface]) -> str:
    """The name of the interface that has an address; empty when none has."""
    return next((interface.name for interface in interfaces if host in interface.addresses), "")


def remote_address(text: str) -> str:
    """A manager's address as a user gives it, with the port 2377 when there is none.

    Raises:
        InvalidArgument: no address at all.
    """
    host, port = _split(text, DEFAULT_PORT, f"invalid remote address {text!r}: expected HOST:PORT")
    return str(Address(host, port))


def host_of(address: str) -> str:
    """The host of ``host:port``, without brackets."""
    return address.rpartition(":")[0].strip("[]")


_BAD_LISTEN = "listen address must be an IP address or network interface (with optional port number)"
_BAD_ADVERTISE = "advertise address must be a non-zero IP address or network interface (with optional port number)"
_BAD_DEFAULT = "default advertise address must be a non-zero IP address or network interface (without a port number)"
_BAD_DATA_PATH = "data path address must be a non-zero IP address or network interface (without a port number)"


def _split(text: str, default_port: int, error: str) -> tuple[str, int]:
    host, port = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, port = text.split(":")
    if not host:
        raise InvalidArgument(error)
    if not port:
        return host, default_port
    number = natural(port)
    if number is None or not 0 < number < 65536:
        raise InvalidArgument(error)
    return host, number


def _resolve(host: str, interfaces: Sequence[Interface], error: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    for interface in interfaces:
        if interface.name == host:
            return _of_interface(interface)
    raise InvalidArgument(error)


def _of_interface(interface: Interface) -> str:
    for version in (4, 6):
        found = interface.of_family(version)
        if len(found) > 1:
            raise InvalidArgument(
                f"interface {interface.name} has more than one IPv{version} address ({found[0]} and {found[1]})"
            )
        if found:
            return found[0]
    raise InvalidArgument(f"interface {interface.name} has no usable IPv4 or IPv6 address")


def _only_address(interfaces: Sequence[Interface]) -> str:
    for version in (4, 6):
        found = [(address, interface.name) for interface in interfaces for address in interface.of_family(version)]
        if len(found) > 1:
            (first, first_name), (second, second_name) = found[:2]
            if first_name == second_name:
                where = f"on interface {first_name} ({first} and {second})"
            else:
                where = f"on different interfaces ({first} on {first_name} and {second} on {second_name})"
            raise InvalidArgument(
                f"could not choose an IP address to advertise since this system has multiple addresses {where}"
            )
        if found:
            return found[0][0]
    raise InvalidArgument("could not find the system's IP address")
