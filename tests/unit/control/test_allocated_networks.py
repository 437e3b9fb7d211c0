from __future__ import annotations

import pytest

from enxame.control.network_state import VXLAN_OPTION
from enxame.model.cluster import Cluster, Driver
from enxame.model.network import Network, NetworkSpec
from enxame.model.node import NodeDescription
from enxame.model.service import NetworkAttachmentConfig
from enxame.model.task import TaskState
from tests.unit.control.allocations import (
    WIDE,
    configs,
    made_by_nodes,
    network,
    subnet,
    vxlan_ids,
    wide_network,
)
from tests.unit.control.lab import Lab


def test_networks_get_subnets_gateways_and_vxlan_ids_in_turn(lab: Lab) -> None:
    ingress = lab.store.view.get(Network, "ingress")
    assert ingress is not None
    one, two = network(lab, "one"), network(lab, "two")
    assert [subnet(net) for net in (ingress, one, two)] == ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"]
    assert one.ipam_options is not None
    assert one.ipam_options.configs[0].gateway == "10.0.1.1"
    vxlan = [net.driver_state.options for net in (ingress, one, two) if net.driver_state]
    assert [int(v["com.docker.network.driver.overlay.vxlanid_list"]) for v in vxlan] == [4096, 4097, 4098]
    assert one.driver_state is not None
    assert one.driver_state.name == "overlay"


def test_a_network_keeps_the_subnet_that_was_asked_for_and_others_avoid_it(lab: Lab) -> None:
    assert subnet(network(lab, "mine", "10.0.1.0/24", gateway="10.0.1.9")) == "10.0.1.0/24"
    assert subnet(network(lab, "other")) == "10.0.2.0/24"


def test_a_removed_networks_subnet_and_vxlan_id_rest_and_are_used_again(lab: Lab) -> None:
    cluster = lab.store.view.get(Cluster, "cluster")
    assert cluster is not None
    lab.change(cluster, default_addr_pool=["10.0.0.0/22"], subnet_size=24)
    lab.settle()
    one = network(lab, "one")
    lab.delete(one)
    lab.settle()
    two = network(lab, "two")
    assert [subnet(one), subnet(two)] == ["10.0.1.0/24", "10.0.2.0/24"]
    assert vxlan_ids(lab)["two-id"] == "4098"
    lab.delete(two)
    lab.settle()
    assert [subnet(network(lab, name)) for name in ("three", "four")] == ["10.0.3.0/24", "10.0.1.0/24"]


def test_networks_keep_off_what_nodes_are_on(lab: Lab) -> None:
    lab.node("n1", description=NodeDescription(hostname="n1", subnets=["10.0.1.0/25", "192.168.0.0/16"]))
    lab.put(Network(id="app", spec=NetworkSpec(name="app")))
    lab.settle()
    assert [config.subnet for config in configs(lab, "app")] == ["10.0.2.0/24"]


def test_a_network_with_ipv6_has_a_subnet_of_each_family(lab: Lab) -> None:
    lab.put(
        Network(id="one", spec=NetworkSpec(name="one", ipv6_enabled=True)),
        Network(id="two", spec=NetworkSpec(name="two", ipv6_enabled=True)),
    )
    lab.node("n1")
    web = lab.service("web", 1, networks=[NetworkAttachmentConfig(target="two")])
    lab.settle()
    one, two = configs(lab, "one"), configs(lab, "two")
    assert [config.subnet.rpartition("/")[2] for config in (*one, *two)] == ["24", "64", "24", "64"]
    assert all(config.subnet.startswith("fd") for config in (one[1], two[1]))
    assert one[1].subnet != two[1].subnet
    assert two[1].gateway == two[1].subnet.replace("::/64", "::1")
    (attachment,) = lab.tasks(web)[0].networks_attachments
    assert [":" in address for address in attachment.addresses] == [False, True]


def test_a_network_has_all_the_subnets_that_were_asked_for(lab: Lab) -> None:
    wide_network(lab)
    found = [(config.subnet, config.gateway) for config in configs(lab, "wide")]
    assert found == list(zip(WIDE, ("192.168.1.1", "192.170.0.100", "fd00:1::1", "fd00:2::1"), strict=True))
    network(lab, "same", "192.170.0.128/25")
    same = lab.store.view.get(Network, "same-id")
    assert same is not None
    assert same.ipam_options is None, "it overlaps with the second one"
    assert len(vxlan_ids(lab)["wide"].split(",")) == 1


def test_a_vxlan_id_of_ones_own_choice_is_had_or_waited_for(lab: Lab) -> None:
    wish = Driver(name="overlay", options={VXLAN_OPTION: "4097"})
    lab.put(Network(id="first", spec=NetworkSpec(name="first", driver_configuration=wish)))
    lab.settle()
    lab.put(Network(id="second", spec=NetworkSpec(name="second", driver_configuration=wish)))
    lab.put(Network(id="third", spec=NetworkSpec(name="third")))
    lab.settle()
    assert vxlan_ids(lab) == {"ingress": "4096", "first": "4097", "second": "", "third": "4098"}
    first = lab.store.view.get(Network, "first")
    assert first is not None
    lab.delete(first)
    lab.settle()
    assert vxlan_ids(lab)["second"] == "4097"


def test_a_subnet_that_all_nodes_are_to_have_is_no_other_networks(lab: Lab) -> None:
    made_by_nodes(lab, "first", "bridge", "10.0.1.0/24")
    assert subnet(network(lab, "second")) == "10.0.2.0/24"
    lab.elect()
    assert subnet(network(lab, "third")) == "10.0.3.0/24"
    first = lab.store.view.get(Network, "first-id")
    assert first is not None
    lab.delete(first)
    lab.settle()
    assert subnet(network(lab, "fourth", "10.0.1.0/24")) == "10.0.1.0/24"


@pytest.mark.parametrize(
    "bad", [{"subnet": "10.0.0.0/99"}, {"subnet": "nonsense"}, {"subnet": "10.7.0.0/24", "gateway": "x"}]
)
def test_a_network_that_makes_no_sense_hurts_nobody_else(lab: Lab, bad: dict[str, str]) -> None:
    lab.node("n1")
    network(lab, "bad", bad["subnet"], gateway=bad.get("gateway", ""))
    broken = lab.service("broken", 1, networks=[NetworkAttachmentConfig(target="bad")])
    assert lab.tasks(broken)[0].status.err.startswith("network bad cannot be used: ")
    assert lab.tasks(lab.service("web", 1))[0].status.state is TaskState.ASSIGNED
