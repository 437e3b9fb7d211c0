"""Services' virtual addresses inside a client's namespace: from what is to what should be, as messages. Pure.

A connection to a virtual address is sent to one of the service's backends before it leaves the client's namespace: the
client keeps its address, and the machine's firewall sees ordinary traffic. Two maps hold everything: one leads from a
virtual address to the chain for services with as many backends, the other from address and number to the backend. So
a service is elements only, what is told to one namespace is told to all, and ten thousand elements take 15 ms.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from enxame.network import nft_messages as nft
from enxame.network.nft_messages import IPV4, R0, Message

TABLE: Final = "enxame-vips"
_SERVICES: Final = "services"
_BACKENDS: Final = "backends"
_UNSERVED: Final = "unserved"
_TCP: Final = b"\x06"
_DESTINATION: Final = 16
_SOURCE: Final = 12
_PRIORITY_NAT: Final = -100


@dataclass(frozen=True, slots=True)
class VirtualService:
    """Who answers a virtual address. ``sticky``: a client always gets the same backend while they are the same."""

    backends: tuple[IPv4Address, ...] = ()
    sticky: bool = False

    @property
    def chain(self) -> str:
        """Of its kind; empty when nobody answers."""
        return f"{'same' if self.sticky else 'any'}-{len(self.backends)}" if self.backends else ""


Services = Mapping[IPv4Address, VirtualService]


def remove() -> list[Message]:
    """Undo :func:`install`; nothing need be there."""
    return [nft.add_table(IPV4, TABLE), nft.delete_table(IPV4, TABLE)]


def install() -> list[Message]:
    """The table without services, in a namespace that has none."""
    address = nft.load_payload(nft.NETWORK, _DESTINATION, 4)
    messages = [
        nft.add_table(IPV4, TABLE),
        nft.add_map(IPV4, TABLE, _SERVICES, 1, key=4),
        nft.add_map(IPV4, TABLE, _BACKENDS, 2, key=8, value=4),
        nft.add_set(IPV4, TABLE, _UNSERVED, 3, key=4),
        nft.add_base_chain(IPV4, TABLE, "refuse", "filter", nft.OUTPUT, 0),
        nft.add_rule(
            IPV4,
            TABLE,
            "refuse",
            address,
            nft.look_up(_UNSERVED),
            nft.load_meta(nft.META_PROTOCOL),
            nft.compare(_TCP),
            nft.reset(),
        ),
        nft.add_rule(IPV4, TABLE, "refuse", address, nft.look_up(_UNSERVED), nft.unreachable()),
    ]
    # Forwarded packets are those of containers within the container.
    for chain, hook in (("output", nft.OUTPUT), ("prerouting", nft.PREROUTING)):
        messages.append(nft.add_base_chain(IPV4, TABLE, chain, "nat", hook, _PRIORITY_NAT))
        messages.append(nft.add_rule(IPV4, TABLE, chain, address, nft.look_up(_SERVICES, into=0)))
    return messages


def add_chains(chains: Iterable[str]) -> list[Message]:
    """The chains for services of some kinds (:attr:`VirtualService.chain`), which must not exist."""
    messages: list[Message] = []
    for chain in chains:
        kind, _, count = chain.partition("-")
        choice: tuple[bytes, ...] = (nft.random_number(int(count), R0 + 1),)
        if kind == "same":
            choice = (
                nft.load_payload(nft.NETWORK, _SOURCE, 4, R0 + 1),
                nft.hashed(int(count), 4, R0 + 1, into=R0 + 1),
            )
        messages.append(nft.add_chain(IPV4, TABLE, chain))
        messages.append(
            nft.add_rule(
                IPV4,
                TABLE,
                chain,
                nft.load_payload(nft.NETWORK, _DESTINATION, 4),
                *choice,
                nft.look_up(_BACKENDS, into=R0),
                nft.translate_destination(),
            )
        )
    return messages


def chains_of(services: Iterable[VirtualService]) -> set[str]:
    """The chains that services need."""
    return {service.chain for service in services if service.backends}


def difference(before: Services, after: Services) -> list[Message]:
    """What leads from ``before`` to ``after``, where the chains for it exist; empty when that is nothing."""
    gone_services: list[bytes] = []
    gone_backends: list[bytes] = []
    gone_unserved: list[bytes] = []
    come_services: list[bytes] = []
    come_backends: list[bytes] = []
    come_unserved: list[bytes] = []
    for address in [*(vip for vip in before if vip not in after), *after]:
        old, new = before.get(address), after.get(address)
        if old == new:
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
    changes: Iterator[list[Message]] = iter(
        (
            nft.delete_elements(IPV4, TABLE, _SERVICES, gone_services),
            nft.delete_elements(IPV4, TABLE, _BACKENDS, gone_backends),
            nft.delete_elements(IPV4, TABLE, _UNSERVED, gone_unserved),
            nft.add_elements(IPV4, TABLE, _BACKENDS, come_backends),
            nft.add_elements(IPV4, TABLE, _SERVICES, come_services),
            nft.add_elements(IPV4, TABLE, _UNSERVED, come_unserved),
        )
    )
    return [message for messages in changes for message in messages]


def lost(before: Services, after: Services) -> set[IPv4Address]:
    """Backends that some service had and has no more."""
    gone: set[IPv4Address] = set()
    for address, old in before.items():
        new = after.get(address)
        gone.update(set(old.backends) - set(new.backends if new is not None else ()))
    return gone


def in_order(known: Collection[IPv4Address], wanted: Collection[IPv4Address]) -> tuple[IPv4Address, ...]:
    """``wanted`` with as few as possible in another place than in ``known``: less changes."""
    kept = [address for address in known if address in wanted]
    fresh = sorted(address for address in wanted if address not in kept)
    return (*kept, *fresh)


def _numbered(vip: bytes, service: VirtualService | None) -> dict[bytes, IPv4Address]:
    backends = service.backends if service is not None else ()
    return {vip + struct.pack("=I", number): backend for number, backend in enumerate(backends)}
