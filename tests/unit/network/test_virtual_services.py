"""Differences are checked by applying them: a small interpreter of the messages about elements."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given
from hypothesis import strategies as st

from enxame.network import virtual_services
from enxame.network.nft_messages import IPV6, Message, transaction
from enxame.network.rtnetlink import Address
from enxame.network.virtual_services import Services, VirtualService, difference, in_order, lost

NEW, DELETE = 12, 14
addresses = st.integers(1, 6).map(lambda number: IPv4Address("10.0.1.0") + number)


def services(vip: Address, backend: Address) -> st.SearchStrategy[Services]:
    """Some with addresses that follow ``vip``, and backends with such that follow ``backend``."""
    backends = st.lists(st.integers(1, 6).map(lambda number: backend + number), max_size=4, unique=True).map(tuple)
    vips = st.integers(1, 4).map(lambda number: vip + number)
    return st.dictionaries(vips, st.builds(VirtualService, backends, st.booleans()), max_size=4)


many = st.builds(
    lambda of_four, of_six: {**of_four, **of_six},
    services(IPv4Address("10.0.9.0"), IPv4Address("10.0.1.0")),
    services(IPv6Address("fd00:9::"), IPv6Address("fd00:1::")),
)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += length + (-length % 4)


class Kernel:
    """The sets of one namespace, by version of IP; refuses what the kernel would refuse."""

    def __init__(self) -> None:
        self.sets: dict[int, dict[str, dict[bytes, bytes]]] = {
            size: {"services": {}, "backends": {}, "unserved": {}} for size in (4, 16)
        }

    def apply(self, messages: Sequence[Message]) -> None:
        for message in messages:
            found = dict(attributes(message.payload[4:]))
            assert found[1] == b"enxame-vips\0"
            sets = self.sets[16 if message.payload[0] == IPV6 else 4]
            elements = sets[found[2].rstrip(b"\0").decode()]
            for _, element in attributes(found[3]):
                parts = dict(attributes(element))
                ((_, key),) = attributes(parts[1])
                if message.type == DELETE:
                    del elements[key]
                else:
                    assert message.type == NEW
                    assert key not in elements
                    elements[key] = parts.get(2, b"")

    def services(self) -> dict[Address, tuple[str, tuple[Address, ...]]]:
        """The chain and the backends of each virtual address."""
        return {vip: entry for size in self.sets for vip, entry in self._services(size).items()}

    def _services(self, size: int) -> dict[Address, tuple[str, tuple[Address, ...]]]:
        found: dict[Address, tuple[str, tuple[Address, ...]]] = {}
        sets = self.sets[size]
        for vip, verdict in sets["services"].items():
            assert len(vip) == size
            ((_, place),) = attributes(verdict)
            chain = dict(attributes(place))[2].rstrip(b"\0").decode()
            backends = {
                struct.unpack("=I", key[size:])[0]: ip_address(dict(attributes(data))[1])
                for key, data in sets["backends"].items()
                if key[:size] == vip
            }
            assert sorted(backends) == list(range(int(chain.partition("-")[2])))
            found[ip_address(vip)] = chain, tuple(backends[number] for number in sorted(backends))
        for vip in sets["unserved"]:
            assert ip_address(vip) not in found
            found[ip_address(vip)] = "", ()
        assert {key[:size] for key in sets["backends"]} <= sets["services"].keys(), "no backend of nobody"
        return found


@given(st.lists(many, min_size=1, max_size=5))
def test_differences_lead_from_any_state_to_any_other(states: list[Services]) -> None:
    kernel = Kernel()
    before: Services = {}
    for after in states:
        kernel.apply(difference(before, after))
        assert kernel.services() == {vip: (service.chain, service.backends) for vip, service in after.items()}
        before = after


@given(many)
def test_nothing_is_said_when_nothing_differs(state: Services) -> None:
    assert difference(state, dict(state)) == []


@given(st.lists(addresses, unique=True), st.sets(addresses))
def test_those_who_stay_keep_their_order(known: list[IPv4Address], wanted: set[IPv4Address]) -> None:
    ordered = in_order(known, wanted)
    assert set(ordered) == wanted
    assert [address for address in ordered if address in known] == [address for address in known if address in wanted]


def test_one_backend_less_is_few_messages() -> None:
    vip, backends = IPv4Address("10.0.9.1"), tuple(IPv4Address("10.0.1.0") + number for number in range(1, 11))
    state = {vip: VirtualService(backends)}
    assert lost(state, {vip: VirtualService(backends[:-1])}) == {backends[-1]}
    assert len(difference(state, {vip: VirtualService(backends[:-1])})) == 3


def test_chains_are_those_of_their_versions_table() -> None:
    of_four, of_six = IPv4Address("10.0.9.1"), IPv6Address("fd00:9::1")
    state: Services = {of_four: VirtualService((of_four + 1,)), of_six: VirtualService((of_six + 1,), sticky=True)}
    needed = virtual_services.chains_of(state)
    assert needed == {(4, "any-1"), (6, "same-1")}
    assert {message.payload[0] for message in virtual_services.add_chains(needed)} == {2, IPV6}


def test_a_transaction_asks_for_one_answer_and_is_framed() -> None:
    data = transaction([*virtual_services.install(4), *virtual_services.install(6)])
    flags, offset = [], 0
    while offset < len(data):
        length, kind, flag, _, _ = struct.unpack_from("=IHHII", data, offset)
        flags.append((kind, bool(flag & 4)))
        assert length % 4 == 0
        offset += length
    assert flags[0] == (0x10, False)
    assert flags[-1] == (0x11, False)
    assert [asks for _, asks in flags[1:-1]] == [False] * (len(flags) - 3) + [True]
