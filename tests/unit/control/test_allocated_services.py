from __future__ import annotations

import ipaddress

from msgspec.structs import replace

from enxame.model.service import EndpointSpec, NetworkAttachmentConfig, Service
from enxame.model.task import TaskState
from tests.unit.control.allocations import (
    addresses,
    ipv6_network,
    made_by_nodes,
    network,
    ports_of,
    published,
    with_plugin,
)
from tests.unit.control.lab import Lab


def vips(lab: Lab, service: Service) -> list[tuple[str, int]]:
    """Networks and versions of IP of a service's virtual addresses."""
    shown = lab.get(service).endpoint.virtual_ips
    return [(vip.network_id, ipaddress.ip_interface(vip.addr).version) for vip in shown]


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


def test_without_virtual_addresses_nothing_is_shown_of_networks_that_nodes_make(lab: Lab) -> None:
    lab.node("n1", description=with_plugin("macvlan"))
    made_by_nodes(lab, "wire", "macvlan")
    config = NetworkAttachmentConfig(target="wire-id")
    web = lab.service("web", 1, spec={"endpoint_spec": EndpointSpec(mode="dnsrr")}, networks=[config])
    assert lab.get(web).endpoint.virtual_ips == []
    assert lab.tasks(web)[0].status.state is TaskState.ASSIGNED


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
