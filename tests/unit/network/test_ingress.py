"""The difference is checked by applying it: a small interpreter of the few nft commands that it uses."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from enxame.network.ingress import Backend, PortKey, Published, Services, difference, lost

keys = st.tuples(st.sampled_from(["tcp", "udp"]), st.integers(30000, 30004))
backends = st.lists(
    st.builds(Backend, st.integers(1, 5).map(lambda n: IPv4Address("10.0.0.0") + n), st.sampled_from([80, 81])),
    max_size=4,
    unique=True,
).map(tuple)
services = st.dictionaries(keys, st.builds(Published, backends, st.booleans()), max_size=6)


class Kernel:
    """Chains, the verdict map and the set; refuses what the kernel would refuse."""

    def __init__(self) -> None:
        self.chains: dict[str, list[str]] = {}
        self.verdicts: dict[str, str] = {}
        self.unserved: set[str] = set()

    def apply(self, text: str) -> None:
        for line in text.splitlines():
            verb, kind, rest = line.split(" ", 2)
            rest = rest.removeprefix("inet enxame ")
            if kind == "element":
                match = re.fullmatch(r"(services|unserved) \{ (\w+ \. \d+)(?: : goto (\S+))? \}", rest)
                assert match is not None, line
                getattr(self, f"{verb}_element")(*match.groups())
            else:
                getattr(self, f"{verb}_{kind}")(*rest.split(" ", 1))
        assert set(self.verdicts.values()) == set(self.chains), "no chain without a way to it"

    def add_element(self, name: str, place: str, chain: str | None) -> None:
        if name == "services":
            assert place not in self.verdicts
            assert chain in self.chains
            self.verdicts[place] = chain
        else:
            assert place not in self.unserved
            self.unserved.add(place)

    def delete_element(self, name: str, place: str, _chain: None) -> None:
        if name == "services":
            del self.verdicts[place]
        else:
            self.unserved.remove(place)

    def add_chain(self, name: str) -> None:
        assert name not in self.chains
        self.chains[name] = []

    def flush_chain(self, name: str) -> None:
        self.chains[name].clear()

    def delete_chain(self, name: str) -> None:
        assert name not in self.verdicts.values(), "in use"
        del self.chains[name]

    def add_rule(self, chain: str, rule: str) -> None:
        self.chains[chain].append(rule)

    def services(self) -> Services:
        found: dict[PortKey, Published] = {}
        for place, chain in self.verdicts.items():
            protocol, port = place.split(" . ")
            (rule,) = self.chains[chain]
            assert f"meta l4proto {protocol} " in rule
            targets = re.findall(r"(\d+\.\d+\.\d+\.\d+)(?::| \. )(\d+)", rule)
            if len(targets) > 1:
                assert f"numgen inc mod {len(targets)} " in rule or f"jhash ip saddr mod {len(targets)} " in rule
            found[protocol, int(port)] = Published(
                tuple(Backend(IPv4Address(ip), int(number)) for ip, number in targets), "jhash" in rule
            )
        for place in self.unserved:
            protocol, port = place.split(" . ")
            assert (protocol, int(port)) not in found
            found[protocol, int(port)] = Published()
        return found


@given(st.lists(services, min_size=1, max_size=6))
def test_differences_lead_from_any_state_to_any_other(states: list[Services]) -> None:
    kernel = Kernel()
    before: Services = {}
    for after in states:
        kernel.apply(difference(before, after))
        # Whether clients stay with a backend cannot be seen where there are less than two.
        assert kernel.services() == {
            key: Published(entry.backends, entry.sticky and len(entry.backends) > 1) for key, entry in after.items()
        }
        before = after


@given(services)
def test_nothing_changes_when_nothing_differs(state: Services) -> None:
    assert difference(state, dict(state)) == ""


def test_who_is_first_depends_on_the_start_unless_clients_stay() -> None:
    backends = tuple(Backend(IPv4Address("10.0.0.1") + number, 80) for number in range(3))

    def first(start: int, *, sticky: bool) -> list[str]:
        text = difference({}, {("tcp", 30000): Published(backends, sticky)}, start=start)
        assert sorted(re.findall(r"\d : 10.0.0.(\d)", text)) == ["1", "2", "3"]
        return re.findall(r"0 : 10.0.0.(\d)", text)

    assert [first(start, sticky=False) for start in (0, 1, 2, 3**20 + 1)] == [["1"], ["2"], ["3"], ["2"]]
    assert {tuple(first(start, sticky=True)) for start in range(5)} == {("1",)}


def test_only_the_port_that_differs_is_touched() -> None:
    one, two = Backend(IPv4Address("10.0.0.1"), 80), Backend(IPv4Address("10.0.0.2"), 80)
    before = {("tcp", 30000): Published((one,)), ("tcp", 30001): Published((one,))}
    text = difference(before, {**before, ("tcp", 30001): Published((one, two))})
    assert "30001" in text
    assert "30000" not in text


def test_who_answers_no_more_is_named() -> None:
    one, two = Backend(IPv4Address("10.0.0.1"), 80), Backend(IPv4Address("10.0.0.2"), 80)
    before = {("tcp", 30000): Published((one, two)), ("tcp", 30001): Published((one,))}
    assert lost(before, {("tcp", 30000): Published((two,)), ("tcp", 30001): Published((one,))}) == {one.ip}
    assert lost(before, {}) == {one.ip, two.ip}


def test_each_version_of_ip_has_a_rule_of_its_own_backends() -> None:
    four = [Backend(IPv4Address("10.0.0.1") + number, 80) for number in range(2)]
    six = Backend(IPv6Address("fd00::1"), 80)
    ports: Services = {("tcp", 80): Published((*four, six)), ("udp", 53): Published((six,))}
    rules = [line for line in difference({}, ports).splitlines() if line.startswith("add rule")]
    assert [line.partition(" dnat ")[2] for line in rules] == [
        "ip to numgen inc mod 2 map { 0 : 10.0.0.1 . 80, 1 : 10.0.0.2 . 80 }",
        "ip6 to [fd00::1]:80",
        "ip6 to [fd00::1]:80",
    ]
    assert lost(ports, {}) == {*(backend.ip for backend in four), six.ip}
