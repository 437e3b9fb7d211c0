"""Services' virtual addresses inside a client's namespace: from what is to what should be, as messages. Pure.

A connection to a virtual address is sent to one of the service's backends before it leaves the client's namespace: the
client keeps its address, and the machine's firewall sees ordinary traffic. Two maps hold everything: one leads from a
virtual address to the chain for services with as many backends, the other from address and number to the backend. So
a service is elements only, what is told to one namespace is told to all, and ten thousand elements take 15 ms.

Each version of IP (4, 6) has a table of its own, built the same; an address and its backends are of one version.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from enxame.network import nft_messages as nft
from enxame.network.nft_messages import IPV4, IPV6, R0, Message
from enxame.network.rtnetlink import Address

TABLE: Final = "enxame-vips"
_SERVICES: Final = "services"
_BACKENDS: Final = "backends"
_UNSERVED: Final = "unserved"
_TCP: Final = b"\x06"
_PRIORITY_NAT: Final = -100


@dataclass(frozen=True, slots=True)
class _Version:
    """Of IP: nf_tables' number, and where its header has the addresses, of so many bytes."""

    family: int
    size: int
    source: int
    destination: int

    @property
    def after(self) -> int:
        """The register after an address in the first ones."""
        return R0 + self.size // 4


_VERSIONS: Final = {4: _Version(IPV4, 4, 12, 16), 6: _Version(IPV6, 16, 8, 24)}


@dataclass(frozen=True, slots=True)
class VirtualService:
    """Who answers a virtual address. ``sticky``: a client always gets the same backend while they are the same."""

    backends: tuple[Address, ...] = ()
    sticky: bool = False

    @property
    def chain(self) -> str:
        """Of its kind; empty when nobody answers."""
        return f"{'same' if self.sticky else 'any'}-{len(self.backends)}" if self.backends else ""


#: The chain for services of one kind: its table's version of IP, and :attr:`VirtualService.chain`.
Chain = tuple[int, str]
Services = Mapping[Address, VirtualService]


def remove(version: int) -> list[Message]:
    """Undo :func:`install`; nothing need be there."""
    family = _VERSIONS[version].family
    return [nft.add_table(family, TABLE), nft.delete_table(family, TABLE)]


def install(version: int) -> list[Message]:
    """A version's table without services, in a namespace that has none."""
    ip = _VERSIONS[version]
    family = ip.family
    address = nft.load_payload(nft.NETWORK, ip.destination, ip.size)
    # Sets are numbered within a transaction, which may have the tables of both versions.
    number = 10 * version
    messages = [
        nft.add_table(family, TABLE),
        nft.add_map(family, TABLE, _SERVICES, number, key=ip.size),
        nft.add_map(family, TABLE, _BACKENDS, number + 1, key=ip.size + 4, value=ip.size),
        nft.add_set(family, TABLE, _UNSERVED, number + 2, key=ip.size),
        nft.add_base_chain(family, TABLE, "refuse", "filter", nft.OUTPUT, 0),
        nft.add_rule(
            family,
            TABLE,
            "refuse",
            address,
            nft.look_up(_UNSERVED),
            nft.load_meta(nft.META_PROTOCOL),
            nft.compare(_TCP),
            nft.reset(),
        ),
        nft.add_rule(family, TABLE, "refuse", address, nft.look_up(_UNSERVED), nft.unreachable(family)),
    ]
    # Forwarded packets are those of containers within the container.
    for chain, hook in (("output", nft.OUTPUT), ("prerouting", nft.PREROUTING)):
        messages.append(nft.add_base_chain(family, TABLE, chain, "nat", hook, _PRIORITY_NAT))
        messages.append(nft.add_rule(family, TABLE, chain, address, nft.look_up(_SERVICES, into=0)))
    return messages


def add_chains(chains: Iterable[Chain]) -> list[Message]:
    """The chains for services of some kinds, which must not exist."""
    messages: list[Message] = []
    for version, chain in chains:
        ip = _VERSIONS[version]
        kind, _, count = chain.partition("-")
        choice: tuple[bytes, ...] = (nft.random_number(int(count), ip.after),)
        if kind == "same":
            choice = (
                nft.load_payload(nft.NETWORK, ip.source, ip.size, ip.after),
                nft.hashed(int(count), ip.size, ip.after, into=ip.after),
            )
        messages.append(nft.add_chain(ip.family, TABLE, chain))
        messages.append(
            nft.add_rule(
                ip.family,
                TABLE,
                chain,
                nft.load_payload(nft.NETWORK, ip.destination, ip.size),
                *choice,
                nft.look_up(_BACKENDS, into=R0),
                nft.translate_destination(family=ip.family),
            )
        )
    return messages


def remove_chains(chains: Iterable[Chain]) -> list[Message]:
    """Take chains away that no service leads to."""
    return [nft.delete_chain(_VERSIONS[version].family, TABLE, chain) for version, chain in chains]


def chains_of(services: Services) -> set[Chain]:
    """The chains that services need."""
    return {(address.version, service.chain) for address, service in services.items() if service.backends}


def difference(before: Services, after: Services) -> list[Message]:
    """What leads from ``before`` to ``after``, where the tables and chains for it exist; empty when that is nothing."""
    messages: list[Message] = []
    for version in sorted({address.version for services in (before, after) for address in services}):
        messages += _difference(version, before, after)
    return messages


def _difference(version: int, before: Services, after: Services) -> list[Message]:
    gone_services: list[bytes] = []
    gone_backends: list[bytes] = []
    gone_unserved: list[bytes] = []
    come_services: list[bytes] = []
    come_backends: list[bytes] = []
    come_unserved: list[bytes] = []
    for address in [*(vip for vip in before if vip not in after), *after]:
        old, new = before.get(address), after.get(address)
        if address.version != version or old == new:
            continue
        vip = address.packed
        if old is not None and (new is None or old.chain != new.chain):
            (gone_services if old.backends else gone_unserved).append(nft.key(vip))
        if new is not None and (old is None or old.chain != new.chain):
            if new.backends:
                come_services.append(nft.goes_to(vip, new.chain))
            else:
                come_unserved.append(nft.key(vip))
        was, will = _numbered(vip, old), _numbered(vip, new)
        gone_backends += [nft.key(place) for place, backend in was.items() if will.get(place) != backend]
        come_backends += [nft.pair(place, to.packed) for place, to in will.items() if was.get(place) != to]
    family = _VERSIONS[version].family
    changes: Iterator[list[Message]] = iter(
        (
            nft.delete_elements(family, TABLE, _SERVICES, gone_services),
            nft.delete_elements(family, TABLE, _BACKENDS, gone_backends),
            nft.delete_elements(family, TABLE, _UNSERVED, gone_unserved),
            nft.add_elements(family, TABLE, _BACKENDS, come_backends),
            nft.add_elements(family, TABLE, _SERVICES, come_services),
            nft.add_elements(family, TABLE, _UNSERVED, come_unserved),
        )
    )
    return [message for messages in changes for message in messages]


def lost(before: Services, after: Services) -> set[Address]:
    """Backends that some service had and has no more."""
    gone: set[Address] = set()
    for address, old in before.items():
        new = after.get(address)
        gone.update(set(old.backends) - set(new.backends if new is not None else ()))
    return gone


def in_order(known: Collection[Address], wanted: Collection[Address]) -> tuple[Address, ...]:
    """``wanted`` with as few as possible in another place than in ``known``: less changes. All of one version."""
    kept = [address for address in known if address in wanted]
    fresh = sorted((address for address in wanted if address not in kept), key=int)
    return (*kept, *fresh)


def _numbered(vip: bytes, service: VirtualService | None) -> dict[bytes, Address]:
    backends = service.backends if service is not None else ()
    return {vip + struct.pack("=I", number): backend for number, backend in enumerate(backends)}
