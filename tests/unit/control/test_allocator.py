from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from enxame.model.attachment import Attachment
from enxame.model.cluster import Driver
from enxame.model.network import IPAMConfig, IPAMOptions, Network, NetworkSpec
from enxame.model.node import Node
from enxame.model.service import NetworkAttachmentConfig, VirtualIP
from enxame.model.task import TaskState
from tests.unit.control.allocations import (
    WIDE,
    addresses,
    made_by_nodes,
    network,
    published,
    subnet,
    subnets_of,
    wide_network,
    with_plugin,
)
from tests.unit.control.lab import Lab


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


def test_a_node_without_the_driver_gets_no_task(lab: Lab) -> None:
    lab.node("n1")
    made_by_nodes(lab, "wire", "macvlan")
    web = lab.service("web", 1, networks=[NetworkAttachmentConfig(target="wire-id")])
    task = lab.tasks(web)[0]
    assert task.status.state is TaskState.PENDING
    assert "missing plugin on 1 node" in task.status.err


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
