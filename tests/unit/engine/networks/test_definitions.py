from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network

import msgspec
import pytest

from enxame.engine.networks import definitions, subnets
from enxame.errors import EnxameError, InvalidArgument, NotFound, PermissionDenied, Unimplemented
from enxame.model.cluster import Driver
from enxame.model.network import (
    IPAM,
    ConfigFrom,
    IPAMConfig,
    IPAMOptions,
    Network,
    NetworkCreateRequest,
    NetworkResource,
    NetworkSpec,
)
from enxame.network.ipam import DEFAULT_POOLS

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def make(own: tuple[str, ...] = (), foreign: tuple[str, ...] = (), **request: object) -> NetworkResource:
    request.setdefault("name", "back")
    return definitions.requested(
        NetworkCreateRequest(**request),
        "ab" * 32,
        NOW,
        pools=DEFAULT_POOLS,
        own=[IPv4Network(text) for text in own],
        foreign=[IPv4Network(text) for text in foreign],
    )


def test_subnet_and_gateway_are_settled() -> None:
    made = make(own=("172.17.0.0/16",), foreign=("172.18.9.0/24",))
    assert made.ipam.config == [IPAMConfig(subnet="172.19.0.0/16", gateway="172.19.0.1")]
    assert (made.scope, made.driver, made.created) == ("local", "bridge", NOW)


def test_subnet_of_the_users_choice_may_hide_a_route_but_not_another_network() -> None:
    ipam = IPAM(config=[IPAMConfig(subnet="10.7.0.0/24")])
    assert make(foreign=("10.0.0.0/8",), ipam=ipam).ipam.config[0].gateway == "10.7.0.1"
    with pytest.raises(PermissionDenied, match=r"^Pool overlaps with other one on this address space$"):
        make(own=("10.7.0.128/25",), ipam=ipam)


@pytest.mark.parametrize(
    ("request_", "error", "text"),
    [
        ({"name": " "}, InvalidArgument, "name cannot be empty"),
        ({"name": "host"}, PermissionDenied, "operation is not permitted on predefined host network"),
        ({"driver": "host"}, PermissionDenied, 'only one instance of "host" network is allowed'),
        ({"driver": "null"}, PermissionDenied, 'only one instance of "null" network is allowed'),
        ({"scope": "swarm"}, InvalidArgument, "scope"),
        ({"ingress": True}, PermissionDenied, "Ingress"),
        ({"driver": "ipvlan"}, Unimplemented, "ipvlan"),
        ({"driver": "macvlan"}, InvalidArgument, "parent=LINK"),
        ({"enable_ipv4": False}, Unimplemented, "IPv4"),
        ({"enable_ipv6": True, "ipam": IPAM(config=[IPAMConfig(subnet="fd00::/127")])}, InvalidArgument, "no room"),
        ({"ipam": IPAM(driver="dhcp")}, NotFound, "dhcp"),
        ({"ipam": IPAM(config=[IPAMConfig(gateway="10.0.0.1")])}, InvalidArgument, "needs a subnet"),
        ({"ipam": IPAM(config=[IPAMConfig(subnet="10.0.0.0/99")])}, InvalidArgument, "CIDR"),
        ({"ipam": IPAM(config=[IPAMConfig(subnet="10.0.0.0/24", gateway="10.1.0.1")])}, InvalidArgument, "10.1.0.1"),
        ({"ipam": IPAM(config=[IPAMConfig(subnet="10.0.0.0/24", gateway="x")])}, InvalidArgument, "invalid gateway"),
        ({"ipam": IPAM(config=[IPAMConfig(), IPAMConfig()])}, PermissionDenied, "multiple subnets"),
        ({"options": {"com.docker.network.bridge.name": "much-too-long-name"}}, InvalidArgument, "bridge name"),
        ({"options": {"com.docker.network.bridge.name": "a/b"}}, InvalidArgument, "bridge name"),
        ({"options": {"com.docker.network.driver.mtu": "big"}}, InvalidArgument, "mtu"),
        ({"options": {"com.docker.network.bridge.enable_icc": "maybe"}}, InvalidArgument, "enable_icc"),
    ],
)
def test_what_cannot_be_is_refused(request_: dict[str, object], error: type[EnxameError], text: str) -> None:
    with pytest.raises(error, match=text):
        make(**request_)


def test_options_shape_the_bridge() -> None:
    prefix = "com.docker.network.bridge."
    options = {
        f"{prefix}name": "br7",
        f"{prefix}enable_icc": "false",
        f"{prefix}enable_ip_masquerade": "0",
        "com.docker.network.driver.mtu": "1400",
    }
    made = make(options=options, internal=True)
    bridge = definitions.bridge_of(made, subnets.address_pool(made))
    assert (bridge.name, bridge.mtu, bridge.masquerade, bridge.isolated, bridge.internal) == (
        "br7",
        1400,
        False,
        True,
        True,
    )


def test_bridge_is_named_after_the_network() -> None:
    made = make()
    assert definitions.bridge_of(made, subnets.address_pool(made)).name == "enx-ababababab"


def test_swarm_network_takes_subnet_gateway_and_options_from_the_manager() -> None:
    network = Network(
        id="n" * 25,
        spec=NetworkSpec(name="ingress", ingress=True, labels={"a": "b"}),
        driver_state=Driver(name="overlay", options={"com.docker.network.driver.overlay.vxlanid_list": "4096"}),
        ipam_options=IPAMOptions(configs=[IPAMConfig(subnet="10.0.0.0/24", gateway="10.0.0.1")]),
    )
    made = definitions.of_swarm(network)
    assert (made.scope, made.driver, made.ingress, made.labels) == ("swarm", "overlay", True, {"a": "b"})
    assert [str(gateway) for gateway in subnets.address_pool(made).gateways] == ["10.0.0.1/24"]
    assert made.options == {"com.docker.network.driver.overlay.vxlanid_list": "4096"}


def test_swarm_network_has_all_its_subnets() -> None:
    configs = [
        IPAMConfig(subnet="fd00:1::/64", gateway="fd00:1::1"),
        IPAMConfig(subnet="192.168.1.0/24", gateway="192.168.1.100", ip_range="192.168.1.0/25"),
        IPAMConfig(subnet="192.170.0.0/24", gateway="192.170.0.100", auxiliary_addresses={"router": "192.170.0.5"}),
        IPAMConfig(subnet="fd00:2::/64", gateway="fd00:2::1"),
    ]
    spec = NetworkSpec(name="wide", ipv6_enabled=True)
    network = Network(id="n" * 25, spec=spec, ipam_options=IPAMOptions(configs=configs))
    made = definitions.of_swarm(network)
    assert made.ipam.config == [configs[1], configs[2], configs[0], configs[3]], "those of IPv4 first"
    pool, pool6 = subnets.address_pool(made), subnets.address_pool6(made)
    bridge = definitions.bridge_of(made, pool, None, pool6)
    assert [str(address) for address in bridge.addresses] == [
        "192.168.1.100/24",
        "fd00:1::1/64",
        "192.170.0.100/24",
        "fd00:2::1/64",
    ]
    assert IPv4Address("192.170.0.5") in pool
    narrow = definitions.of_swarm(network, ipv6=False)
    assert narrow.ipam.config == configs[1:3]
    assert definitions.differ_in_ipv6(made, narrow)
    less = Network(id="n" * 25, spec=spec, ipam_options=IPAMOptions(configs=configs[:2]))
    assert not definitions.differ_in_ipv6(narrow, definitions.of_swarm(less)), "that is another network"


def test_swarm_network_without_addresses_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"network app .* has no subnet"):
        definitions.of_swarm(Network(id="n" * 25, spec=NetworkSpec(name="app")))


CONFIG = NetworkCreateRequest(
    name="plan",
    config_only=True,
    ipam=IPAM(config=[IPAMConfig(subnet="10.77.0.0/24")]),
    options={"com.docker.network.driver.mtu": "1400"},
    labels={"a": "b"},
)


def test_a_network_can_be_made_from_a_configuration():
    plan = definitions.configuration(CONFIG, "c" * 64, NOW)
    assert (plan.config_only, plan.driver) == (True, "null")
    asked = NetworkCreateRequest(name="made", config_from=ConfigFrom(network="plan"), internal=True)
    made = definitions.configured(asked, plan)
    assert (made.name, made.internal, made.labels, made.options, made.ipam) == (
        "made",
        True,
        {"a": "b"},
        plan.options,
        plan.ipam,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"internal": True}, "configuration network can only contain network specific fields"),
        ({"attachable": True}, "Network operator fields"),
        ({"config_from": ConfigFrom(network="x")}, "cannot depend on another configuration network"),
    ],
)
def test_a_configuration_is_only_a_configuration(changes, message):
    with pytest.raises(PermissionDenied, match=message):
        definitions.configuration(msgspec.structs.replace(CONFIG, **changes), "c" * 64, NOW)


def test_what_is_made_from_a_configuration_has_no_other_and_needs_one_that_exists():
    asked = NetworkCreateRequest(name="made", config_from=ConfigFrom(network="plan"))
    with pytest.raises(NotFound, match='configuration network "plan" does not exist'):
        definitions.configured(asked, None)
    plan = definitions.configuration(CONFIG, "c" * 64, NOW)
    with pytest.raises(PermissionDenied, match="user specified configurations are not supported"):
        definitions.configured(msgspec.structs.replace(asked, labels={"x": "y"}), plan)
