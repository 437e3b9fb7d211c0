"""Who is called what on which network, and what one container may know of it. Pure.

A name is known on the networks that its bearer is on. Several may bear one name: a service's tasks, an alias.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address

Addresses = tuple[list[bytes], list[bytes]]


@dataclass(slots=True)
class NetworkNames:
    """The names of one network. ``name`` is the network's own; ``whole``: nobody is on it but whom we know."""

    name: str
    whole: bool
    bearers: dict[str, dict[str, tuple[bytes, bytes]]] = field(default_factory=dict)
    reverse: dict[bytes, dict[str, str]] = field(default_factory=dict)

    def addresses(self, name: str) -> Addresses | None:
        """Of all who bear a name."""
        bearers = self.bearers.get(name)
        if bearers is None:
            return None
        # One endpoint may be told of twice: by this machine and by the manager.
        found = dict.fromkeys(bearers.values())
        return [four for four, _ in found if four], [six for _, six in found if six]

    def name_of(self, address: bytes) -> str | None:
        """Who has an address."""
        bearers = self.reverse.get(address)
        return next(iter(bearers.values())) if bearers else None


class NameTable:
    """All networks' names. Endpoints are known by any key that is unique on their network."""

    def __init__(self) -> None:
        self._networks: dict[str, NetworkNames] = {}
        self._told: dict[tuple[str, str], tuple[tuple[str, ...], tuple[bytes, bytes]]] = {}

    def network(self, network_id: str, name: str = "", *, whole: bool = True) -> NetworkNames:
        """A network's names; made when missing."""
        known = self._networks.get(network_id)
        if known is None:
            known = self._networks[network_id] = NetworkNames(name, whole)
        elif name:
            known.name = name
        return known

    def tell(
        self,
        network_id: str,
        key: str,
        names: Iterable[str],
        addresses: tuple[bytes, bytes],
        *,
        silent: Iterable[str] = (),
    ) -> None:
        """An endpoint bears ``names`` from now on, and no others; ``addresses`` are IPv4 and IPv6, packed, or empty.
        ``silent`` names are known but do not lead to it.
        """
        self.forget(network_id, key)
        network = self.network(network_id)
        aloud = dict.fromkeys(name.lower() for name in names)
        spoken = tuple(aloud)
        mute = tuple(name for name in dict.fromkeys(name.lower() for name in silent) if name not in aloud)
        for name in spoken:
            network.bearers.setdefault(name, {})[key] = addresses
        for name in mute:
            network.bearers.setdefault(name, {})[key] = (b"", b"")
        proper = next(iter(spoken + mute), "")
        for address in addresses:
            if address and proper:
                network.reverse.setdefault(address, {})[key] = proper
        self._told[network_id, key] = (spoken + mute, addresses)

    def forget(self, network_id: str, key: str) -> None:
        """An endpoint bears no name any more. Idempotent."""
        told = self._told.pop((network_id, key), None)
        if told is None:
            return
        network = self._networks[network_id]
        for name in told[0]:
            bearers = network.bearers.get(name, {})
            bearers.pop(key, None)
            if not bearers:
                network.bearers.pop(name, None)
        for address in told[1]:
            named = network.reverse.get(address, {})
            named.pop(key, None)
            if not named:
                network.reverse.pop(address, None)

    def drop(self, network_id: str) -> None:
        """A network is no more. Idempotent."""
        self._networks.pop(network_id, None)
        for place in [place for place in self._told if place[0] == network_id]:
            del self._told[place]


class View:
    """What one container knows: the names of its networks in order, and its own links (alias to name, by network)."""

    def __init__(self) -> None:
        self._places: list[tuple[NetworkNames, Mapping[str, str]]] = []
        self._subnets: list[tuple[NetworkNames, IPv4Network | IPv6Network]] = []

    def clear(self) -> None:
        """The container is on no network."""
        self._places.clear()
        self._subnets.clear()

    def add(
        self, names: NetworkNames, links: Mapping[str, str], subnets: Iterable[IPv4Network | IPv6Network] = ()
    ) -> None:
        """A network that the container is on, and its subnets."""
        self._places.append((names, links))
        self._subnets += [(names, subnet) for subnet in subnets]

    def addresses(self, name: str) -> Addresses | None:
        """See :class:`enxame.network.dns_server.Names`. ``web.app`` is ``web`` on the network ``app``."""
        found = self._on_networks(name, "")
        head = name
        while found is None and "." in head:
            head = head.rpartition(".")[0]
            found = self._on_networks(head, name[len(head) + 1 :])
        return found

    def _on_networks(self, name: str, network_name: str) -> Addresses | None:
        silent: Addresses | None = None
        for names, links in self._places:
            if network_name and names.name.lower() != network_name:
                continue
            found = names.addresses(links.get(name, name))
            if found is None:
                continue
            if found[0] or found[1]:
                return found
            silent = found
        return silent

    def name_of(self, address: bytes) -> str | None:
        """See :class:`enxame.network.dns_server.Names`."""
        for names, _ in self._places:
            name = names.name_of(address)
            if name is not None:
                return f"{name}.{names.name}" if names.name else name
        wanted = ip_address(address)
        return "" if any(names.whole and wanted in subnet for names, subnet in self._subnets) else None
