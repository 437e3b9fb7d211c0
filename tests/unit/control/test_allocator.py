from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from msgspec.structs import replace

from enxame.control.network_state import VXLAN_OPTION
from enxame.model.attachment import Attachment
from enxame.model.cluster import Cluster, Driver
from enxame.model.network import ConfigFrom, IPAMConfig, IPAMOptions, Network, NetworkSpec
from enxame.model.node import EngineDescription, Node, NodeDescription, NodeResources, PluginDescription
from enxame.model.service import EndpointSpec, NetworkAttachmentConfig, PortConfig, Service, VirtualIP
from enxame.model.task import TaskState
from tests.unit.control.lab import Lab


def network(lab: Lab, name: str, subnet: str = "", *, gateway: str = "") -> Network:
    options = IPAMOptions(configs=[IPAMConfig(subnet=subnet, gateway=gateway)]) if subnet else None
    lab.put(Network(id=f"{name}-id", spec=NetworkSpec(name=name, ipam_options=options)))
    lab.settle()
    found = lab.store.view.get(Network, f"{name}-id")
    assert found is not None
    return found


def subnet(net: Network) -> str:
    assert net.ipam_options is not None
    return net.ipam_options.configs[0].subnet


def published(*ports: int, mode: str = "ingress") -> dict[str, EndpointSpec]:
    configs = [PortConfig(target_port=80 + i, published_port=port, publish_mode=mode) for i, port in enumerate(ports)]
    return {"endpoint_spec": EndpointSpec(ports=configs)}


def ports_of(lab: Lab, service: Service) -> list[int]:
    return [port.published_port for port in lab.get(service).endpoint.ports]


def addresses(lab: Lab, service: Service) -> list[str]:
    return [a for t in lab.tasks(service) for attachment in t.networks_attachments for a in attachment.addresses]


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


def vxlan_ids(lab: Lab) -> dict[str, str]:
    return {
        network.id: network.driver_state.options[VXLAN_OPTION] if network.driver_state else ""
        for network in lab.store.view.all(Network)
    }


def configs(lab: Lab, network_id: str) -> list[IPAMConfig]:
    network = lab.store.view.get(Network, network_id)
    assert network is not None
    assert network.ipam_options is not None
    return network.ipam_options.configs


def attachment(number: int, network: str = "app", **fields: Any) -> Attachment:
    return Attachment(
        id=f"a{number}", node_id="n1", network_id=network, container_id=f"c{number}", name=f"box{number}", **fields
    )


def test_containers_of_their_own_get_addresses_or_a_reason(lab: Lab) -> None:
    options = IPAMOptions(configs=[IPAMConfig(subnet="10.7.0.0/29")])
    lab.put(Network(id="app", spec=NetworkSpec(name="app", attachable=True, ipam_options=options)))
    lab.node("n1")
    lab.settle()
    lab.put(attachment(1), attachment(2, wanted=["10.7.0.4"]))
    lab.settle()
    lab.put(attachment(3, wanted=["10.7.0.4"]), attachment(4, "absent"))
    lab.settle()
    found = {item.id: (item.addresses, item.err) for item in lab.store.view.all(Attachment)}
    assert found["a1"] == (["10.7.0.2/29"], "")
    assert found["a2"] == (["10.7.0.4/29"], "")
    assert found["a3"] == ([], "requested address 10.7.0.4 on network app is not available")
    assert found["a4"][1].startswith("network absent cannot be used")
    lab.elect()
    lab.put(*(attachment(number) for number in range(5, 9)))
    lab.settle()
    errors = [item.err for item in lab.store.view.all(Attachment) if item.id > "a4"]
    assert errors == ["", "", "", "could not find an available IP on network app (app)"]
    lab.delete(attachment(2))
    lab.settle()
    lab.put(attachment(9, wanted=["10.7.0.4"]))
    lab.settle()
    assert found_address(lab, "a9") == ["10.7.0.4/29"]
    node = lab.store.view.get(Node, "n1")
    assert node is not None
    lab.delete(node)
    lab.settle()
    assert lab.store.view.find(Attachment, "node_id", "n1") == []


def found_address(lab: Lab, attachment_id: str) -> list[str]:
    found = lab.store.view.get(Attachment, attachment_id)
    assert found is not None
    return found.addresses


@pytest.mark.parametrize("target", ["host", "bridge", "none"])
def test_node_local_networks_are_passed_through_without_addresses(lab: Lab, target: str) -> None:
    lab.node("n1")
    web = lab.service("web", 1, networks=[NetworkAttachmentConfig(target=target)])
    attachment = lab.tasks(web)[0].networks_attachments[0]
    assert (attachment.network.spec.name, attachment.addresses) == (target, [])
    assert lab.tasks(web)[0].status.state is TaskState.ASSIGNED


def made_by_nodes(lab: Lab, name: str, driver: str, subnet: str = "") -> Network:
    options = IPAMOptions(driver=Driver(name="default"), configs=[IPAMConfig(subnet=subnet)] if subnet else [])
    spec = NetworkSpec(name=name, driver_configuration=Driver(name=driver), ipam_options=options, scope="swarm")
    lab.put(Network(id=f"{name}-id", spec=replace(spec, config_from=ConfigFrom(network="plan"))))
    lab.settle()
    found = lab.store.view.get(Network, f"{name}-id")
    assert found is not None
    return found


@pytest.mark.parametrize("driver", ["bridge", "macvlan"])
def test_networks_that_nodes_make_have_no_addresses_of_the_leaders(lab: Lab, driver: str) -> None:
    lab.node("n1", description=with_plugin("macvlan"))
    wire = made_by_nodes(lab, "wire", driver)
    assert wire.driver_state == Driver(name=driver)
    assert wire.ipam_options == IPAMOptions()
    config = NetworkAttachmentConfig(target="wire-id", aliases=["w"])
    web = lab.service("web", 2, spec=published(8080), networks=[config])
    ingress, own = lab.get(web).endpoint.virtual_ips
    assert (ingress.network_id, bool(ingress.addr)) == ("ingress", True)
    assert own == VirtualIP(network_id="wire-id")
    for task in lab.tasks(web):
        assert task.status.state is TaskState.ASSIGNED
        assert [(item.network.id, bool(item.addresses)) for item in task.networks_attachments] == [
            ("ingress", True),
            ("wire-id", False),
        ]
        assert task.networks_attachments[1].aliases == ["w"]
        assert task.internal is not None
        assert set(task.internal.virtual_ips) == {"ingress"}


def test_without_virtual_addresses_nothing_is_shown_of_networks_that_nodes_make(lab: Lab) -> None:
    lab.node("n1", description=with_plugin("macvlan"))
    made_by_nodes(lab, "wire", "macvlan")
    config = NetworkAttachmentConfig(target="wire-id")
    web = lab.service("web", 1, spec={"endpoint_spec": EndpointSpec(mode="dnsrr")}, networks=[config])
    assert lab.get(web).endpoint.virtual_ips == []
    assert lab.tasks(web)[0].status.state is TaskState.ASSIGNED


def test_a_node_without_the_driver_gets_no_task(lab: Lab) -> None:
    lab.node("n1")
    made_by_nodes(lab, "wire", "macvlan")
    web = lab.service("web", 1, networks=[NetworkAttachmentConfig(target="wire-id")])
    task = lab.tasks(web)[0]
    assert task.status.state is TaskState.PENDING
    assert "missing plugin on 1 node" in task.status.err


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


def with_plugin(name: str) -> NodeDescription:
    return NodeDescription(
        hostname="n1",
        engine=EngineDescription(plugins=[PluginDescription(type="Network", name=name)]),
        resources=NodeResources(nano_cpus=4 * 10**9, memory_bytes=8 << 30),
    )


def test_services_and_tasks_get_addresses_of_their_own(lab: Lab) -> None:
    lab.node("n1")
    net = network(lab, "net")
    web = lab.service("web", 3, spec=published(8080), networks=[NetworkAttachmentConfig(target="net", aliases=["w"])])
    service = lab.get(web)
    vips = {vip.network_id: vip.addr for vip in service.endpoint.virtual_ips}
    assert set(vips) == {"ingress", net.id}
    everything = [*vips.values(), *addresses(lab, web)]
    assert len(set(everything)) == len(everything) == 8
    task = lab.tasks(web)[0]
    assert task.internal is not None
    assert task.internal.virtual_ips == vips
    own = next(attachment for attachment in task.networks_attachments if attachment.network.id == net.id)
    assert own.aliases == ["w"]
    assert ipaddress.ip_interface(own.addresses[0]).network == ipaddress.ip_network(subnet(net))


def test_dnsrr_services_have_no_virtual_address(lab: Lab) -> None:
    lab.node("n1")
    network(lab, "net")
    web = lab.service(
        "web", 1, spec={"endpoint_spec": EndpointSpec(mode="dnsrr")}, networks=[NetworkAttachmentConfig(target="net")]
    )
    assert lab.get(web).endpoint.virtual_ips == []
    assert len(addresses(lab, web)) == 1


def test_dynamic_ports_are_given_in_turn_and_stay(lab: Lab) -> None:
    one = lab.service("one", 0, spec=published(0, 0))
    two = lab.service("two", 0, spec=published(0))
    assert ports_of(lab, one) == [30000, 30001]
    assert ports_of(lab, two) == [30002]
    lab.scale(one, 1)
    lab.elect()
    assert ports_of(lab, one) == [30000, 30001]
    three = lab.service("three", 0, spec=published(0))
    assert ports_of(lab, three) == [30003] or ports_of(lab, three)[0] not in (30000, 30001, 30002)


def test_a_port_taken_is_waited_for(lab: Lab) -> None:
    lab.node("n1")
    one = lab.service("one", 1, spec=published(8080))
    two = lab.service("two", 1, spec=published(8080))
    task = lab.tasks(two)[0]
    assert task.status.state is TaskState.NEW
    assert task.status.err == "port '8080' is already in use by service 'one' (one-id) as an ingress port"
    lab.delete(lab.get(one))
    lab.settle()
    assert ports_of(lab, two) == [8080]
    assert lab.task(task).status.state is TaskState.ASSIGNED


def test_host_ports_are_nobodys_but_the_nodes(lab: Lab) -> None:
    for node in ("n1", "n2"):
        lab.node(node)
    one = lab.service("one", 1, spec=published(8080, mode="host"))
    two = lab.service("two", 1, spec=published(8080, mode="host"))
    assert lab.tasks(one)[0].node_id != lab.tasks(two)[0].node_id


def test_without_free_addresses_a_task_waits_and_says_so(lab: Lab) -> None:
    lab.node("n1")
    network(lab, "net", "10.9.0.0/29")  # .1 is the gateway: 5 addresses
    attach = {"networks": [NetworkAttachmentConfig(target="net")]}
    one = lab.service("one", 4, **attach)
    assert len(addresses(lab, one)) == 4
    two = lab.service("two", 1, **attach)
    task = lab.tasks(two)[0]
    assert (task.status.state, task.status.err) == (
        TaskState.NEW,
        "could not find an available IP while allocating VIP",
    )
    lab.play()
    lab.scale(one, 1)
    lab.play()
    assert lab.task(task).status.state is TaskState.RUNNING


def test_dead_tasks_give_their_addresses_back(lab: Lab) -> None:
    lab.node("n1")
    network(lab, "net", "10.9.0.0/29")
    web = lab.service("web", 4, networks=[NetworkAttachmentConfig(target="net")])
    lab.play()
    for _ in range(5):
        for task in lab.wanted(web):
            lab.report(task, TaskState.FAILED)
        lab.play()
        lab.pass_time(6)
        lab.play()
    assert len(lab.wanted(web)) == 4
    assert {task.status.state for task in lab.wanted(web)} == {TaskState.RUNNING}


def test_an_unknown_network_is_waited_for(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 1, networks=[NetworkAttachmentConfig(target="late")])
    assert lab.tasks(web)[0].status.err == "network late not found"
    network(lab, "late")
    assert lab.tasks(web)[0].status.state is TaskState.ASSIGNED


def test_a_removed_services_virtual_address_rests_until_its_tasks_are_gone(lab: Lab) -> None:
    lab.node("n1")
    network(lab, "net", "10.9.0.0/29")
    attach = {"networks": [NetworkAttachmentConfig(target="net")]}
    one = lab.service("one", 4, **attach)
    lab.play()
    lab.delete(lab.get(one))
    two = lab.service("two", 1, **attach)
    assert lab.get(two).endpoint.virtual_ips == []
    lab.play()
    assert len(lab.get(two).endpoint.virtual_ips) == 1


WIDE = ("192.168.1.0/29", "192.170.0.0/24", "fd00:1::/125", "fd00:2::/64")


def wide_network(lab: Lab, name: str = "wide") -> None:
    configs = [IPAMConfig(subnet=subnet) for subnet in WIDE]
    configs[1] = replace(configs[1], gateway="192.170.0.100", auxiliary_addresses={"router": "192.170.0.1"})
    options = IPAMOptions(configs=configs)
    lab.put(Network(id=name, spec=NetworkSpec(name=name, ipv6_enabled=True, attachable=True, ipam_options=options)))
    lab.settle()


def subnets_of(found: list[str]) -> list[str]:
    """The subnets of addresses, those of IPv4 first, in the order of the network."""
    inside = {str(ipaddress.ip_interface(address).network) for address in found}
    return sorted(inside, key=WIDE.index)


def test_a_network_has_all_the_subnets_that_were_asked_for(lab: Lab) -> None:
    wide_network(lab)
    found = [(config.subnet, config.gateway) for config in configs(lab, "wide")]
    assert found == list(zip(WIDE, ("192.168.1.1", "192.170.0.100", "fd00:1::1", "fd00:2::1"), strict=True))
    network(lab, "same", "192.170.0.128/25")
    same = lab.store.view.get(Network, "same-id")
    assert same is not None
    assert same.ipam_options is None, "it overlaps with the second one"
    assert len(vxlan_ids(lab)["wide"].split(",")) == 1


def test_addresses_are_of_the_first_subnet_with_a_free_one_and_those_of_services_alike(lab: Lab) -> None:
    lab.node("n1")
    wide_network(lab)
    on = [NetworkAttachmentConfig(target="wide")]
    first = lab.service("first", 4, networks=on)
    assert subnets_of(addresses(lab, first)) == [WIDE[0], WIDE[2]]
    second = lab.service("second", 5, networks=on)
    assert subnets_of(addresses(lab, second)) == [WIDE[1], WIDE[3]]
    virtual = [vip.addr for vip in lab.get(second).endpoint.virtual_ips]
    assert subnets_of(virtual) == [WIDE[1], WIDE[3]]
    assert not {"192.170.0.1/24", "192.170.0.100/24"} & {*addresses(lab, second), *virtual}
    lab.play()
    ledger = lab.leader.ledger()
    lab.elect()
    assert lab.leader.ledger() == ledger
    lab.scale(first, 2)
    lab.play()
    third = lab.service("third", 1, networks=on)
    assert subnets_of(addresses(lab, third)) == [WIDE[0], WIDE[2]], "what was given back comes before later subnets"


def test_a_container_of_its_own_asks_for_an_address_of_any_subnet(lab: Lab) -> None:
    lab.node("n1")
    wide_network(lab)
    lab.put(
        attachment(1, "wide", wanted=["192.170.0.77"]),
        attachment(2, "wide", wanted=["fd00:2::77"]),
        attachment(3, "wide", wanted=["192.170.0.77"]),
        attachment(4, "wide", wanted=["192.171.0.1"]),
    )
    lab.settle()
    assert found_address(lab, "a1") == ["192.170.0.77/24", "fd00:1::2/125"]
    assert found_address(lab, "a2") == ["fd00:2::77/64", "192.168.1.2/29"]
    errors = [item.err for item in lab.store.view.all(Attachment) if item.err]
    assert errors == [
        "requested address 192.170.0.77 on network wide is not available",
        "requested address 192.171.0.1 on network wide is not available",
    ]


def test_only_when_all_subnets_are_full_a_task_waits(lab: Lab) -> None:
    lab.node("n1")
    small = IPAMOptions(configs=[IPAMConfig(subnet="10.9.0.0/29"), IPAMConfig(subnet="10.9.1.0/29")])
    lab.put(Network(id="small", spec=NetworkSpec(name="small", ipam_options=small)))
    web = lab.service("web", 10, networks=[NetworkAttachmentConfig(target="small")])
    waiting = [task.status.err for task in lab.tasks(web) if not task.networks_attachments]
    assert waiting == ["could not find an available IP on network small (small)"]
    assert len(addresses(lab, web)) == 9


def ipv6_network(lab: Lab, name: str, *, ingress: bool = False, subnet: str = "") -> None:
    options = IPAMOptions(configs=[IPAMConfig(subnet=subnet)]) if subnet else None
    spec = NetworkSpec(name=name, ipv6_enabled=True, ingress=ingress, ipam_options=options)
    lab.put(Network(id=f"{name}-id", spec=spec))
    lab.settle()


def vips(lab: Lab, service: Service) -> list[tuple[str, int]]:
    """Networks and versions of IP of a service's virtual addresses."""
    shown = lab.get(service).endpoint.virtual_ips
    return [(vip.network_id, ipaddress.ip_interface(vip.addr).version) for vip in shown]


def test_services_have_a_virtual_address_of_each_version_that_their_network_has(lab: Lab) -> None:
    ipv6_network(lab, "both")
    network(lab, "narrow")
    on = [NetworkAttachmentConfig(target="both"), NetworkAttachmentConfig(target="narrow")]
    web = lab.service("web", 1, networks=on, spec=published(8080))
    lab.settle()
    assert vips(lab, web) == [("ingress", 4), ("both-id", 4), ("both-id", 6), ("narrow-id", 4)]
    held = [vip.addr for vip in lab.get(web).endpoint.virtual_ips]
    assert len(set(held)) == 4
    assert not set(held) & set(addresses(lab, web))
    ledger = lab.leader.ledger()
    lab.elect()
    lab.settle()
    assert lab.leader.ledger() == ledger
    assert [vip.addr for vip in lab.get(web).endpoint.virtual_ips] == held


def test_a_service_of_before_gets_its_ipv6_address_and_keeps_its_tasks(lab: Lab) -> None:
    ipv6_network(lab, "both")
    web = lab.service("web", 1, networks=[NetworkAttachmentConfig(target="both")])
    lab.settle()
    (task,) = lab.tasks(web)
    endpoint = lab.get(web).endpoint
    lab.change(lab.get(web), endpoint=replace(endpoint, virtual_ips=endpoint.virtual_ips[:1]))
    lab.elect()
    lab.settle()
    assert vips(lab, web) == [("both-id", 4), ("both-id", 6)]
    assert [(other.id, other.desired_state) for other in lab.tasks(web)] == [(task.id, task.desired_state)]


def test_a_service_without_a_free_ipv6_address_waits_and_holds_nothing(lab: Lab) -> None:
    lab.node("n1")
    ipv6_network(lab, "small", subnet="fd00::/125")  # room for five
    on = [NetworkAttachmentConfig(target="small")]
    first = lab.service("first", 4, networks=on)
    lab.play()
    second = lab.service("second", 1, networks=on)
    lab.settle()
    assert vips(lab, second) == []
    assert "could not find an available IP while allocating VIP" in lab.tasks(second)[0].status.err
    lab.delete(lab.get(first))
    lab.play()
    assert vips(lab, second) == [("small-id", 4), ("small-id", 6)]


def test_a_change_that_cannot_be_allocated_gives_nothing_away(lab: Lab) -> None:
    lab.node("n1")
    network(lab, "net", "10.9.0.0/29")
    full = lab.service("full", 4, networks=[NetworkAttachmentConfig(target="net")])
    web = lab.service("web", 0, spec=published(0))
    assert ports_of(lab, web) == [30000]
    current = lab.get(web)
    template = replace(current.spec.task_template, networks=[NetworkAttachmentConfig(target="net")])
    lab.change(current, spec=replace(current.spec, task_template=template, **published(8080)))
    lab.settle()
    assert ports_of(lab, web) == [30000], "no address for it: the endpoint is as it was"
    assert ports_of(lab, lab.service("other", 0, spec=published(0))) == [30001]
    lab.play()
    lab.scale(full, 1)
    lab.play()
    assert ports_of(lab, web) == [8080]


@pytest.mark.parametrize(
    "bad", [{"subnet": "10.0.0.0/99"}, {"subnet": "nonsense"}, {"subnet": "10.7.0.0/24", "gateway": "x"}]
)
def test_a_network_that_makes_no_sense_hurts_nobody_else(lab: Lab, bad: dict[str, str]) -> None:
    lab.node("n1")
    network(lab, "bad", bad["subnet"], gateway=bad.get("gateway", ""))
    broken = lab.service("broken", 1, networks=[NetworkAttachmentConfig(target="bad")])
    assert lab.tasks(broken)[0].status.err.startswith("network bad cannot be used: ")
    assert lab.tasks(lab.service("web", 1))[0].status.state is TaskState.ASSIGNED
