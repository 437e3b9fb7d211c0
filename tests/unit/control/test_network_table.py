"""Who is on which network, and what nodes are told of it."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from enxame.control.assignments import NodeAssignments, route
from enxame.control.network_table import NetworkTables
from enxame.engine.networks.tables import NetworkTables as Known
from enxame.engine.networks.tables import TableChange
from enxame.model.attachment import Attachment
from enxame.model.cluster import Driver
from enxame.model.dispatch import Assignments, NetworkTable
from enxame.model.network import Network, NetworkSpec
from enxame.model.node import EngineDescription, Node, NodeDescription, NodeStatus, PluginDescription
from enxame.model.service import EndpointSpec, NetworkAttachmentConfig, PortConfig
from enxame.model.task import ContainerStatus, Task, TaskState, TaskStatus
from enxame.testing.promises import allowed
from tests.unit.control.lab import Lab

PUBLISHED: dict[str, Any] = {"endpoint_spec": EndpointSpec(ports=[PortConfig(target_port=80, published_port=8080)])}
ON_APP = [NetworkAttachmentConfig(target="app", aliases=["front"])]


def with_nodes(lab: Lab, *names: str) -> None:
    for number, name in enumerate(names, 1):
        lab.node(name, status=NodeStatus(state="ready", addr=f"192.0.2.{number}"))
    lab.put(Network(id="app", spec=NetworkSpec(name="app")))
    lab.settle()


def shape(table: NetworkTable) -> tuple[object, object, object]:
    return (
        {entry.id: entry for entry in table.endpoints},
        {entry.id: entry for entry in table.services},
        {entry.id: entry for entry in table.peers},
    )


def test_a_task_is_on_its_networks_from_its_assignment_to_its_end_and_serves_while_it_runs(lab: Lab) -> None:
    with_nodes(lab, "n1")
    web = lab.service("web", 1, networks=ON_APP)
    lab.settle()
    tables = NetworkTables(lab.store.view)
    task = lab.tasks(web)[0]
    (endpoint,) = tables.complete("app").endpoints
    assert (endpoint.id, endpoint.node_id, endpoint.data_path, endpoint.serving) == (task.id, "n1", "192.0.2.1", False)
    assert endpoint.addresses == [task.networks_attachments[0].addresses[0].partition("/")[0]]
    assert endpoint.aliases == ["front"]
    assert endpoint.names == [f"web.1.{task.id}", "web.1"]
    lab.store.take_events()
    lab.report(task, TaskState.RUNNING)
    changes = tables.apply(lab.store.view, lab.store.take_events())
    assert list(changes) == ["app"]
    assert [entry.serving for entry in tables.difference("app", changes["app"]).endpoints] == [True]
    lab.change(task, desired_state=TaskState.SHUTDOWN)
    changes = tables.apply(lab.store.view, lab.store.take_events())
    assert [entry.serving for entry in tables.difference("app", changes["app"]).endpoints] == [False]
    lab.report(task, TaskState.SHUTDOWN)
    changes = tables.apply(lab.store.view, lab.store.take_events())
    told = tables.difference("app", changes["app"])
    assert (told.removed_endpoints, told.removed_peers) == ([task.id], ["n1"])


def on_wire(lab: Lab, driver: str) -> Task:
    """A task, on n1, of a service on a network that nodes make."""
    plugins = [PluginDescription(type="Network", name="macvlan")]
    description = NodeDescription(hostname="n1", engine=EngineDescription(plugins=plugins))
    lab.node("n1", status=NodeStatus(state="ready", addr="192.0.2.1"), description=description)
    spec = NetworkSpec(name="wire", driver_configuration=Driver(name=driver), scope="swarm")
    lab.put(Network(id="wire-id", spec=spec))
    web = lab.service("web", 1, networks=[NetworkAttachmentConfig(target="wire-id", aliases=["w"])])
    lab.settle()
    return lab.tasks(web)[0]


def running_at(lab: Lab, *addresses: str) -> TaskStatus:
    container = ContainerStatus(container_id="c1", addresses={"wire-id": list(addresses)})
    return TaskStatus(timestamp=lab.clock.wall(), state=TaskState.RUNNING, container_status=container)


def test_a_task_on_the_wire_is_told_of_where_its_node_says_that_it_is(lab: Lab) -> None:
    task = on_wire(lab, "macvlan")
    tables = NetworkTables(lab.store.view)
    table = tables.complete("wire-id")
    assert (table.endpoints, table.peers) == ([], [])
    assert [(item.name, item.aliases, item.mode, item.vip) for item in table.services] == [("web", ["w"], "vip", "")]
    lab.store.take_events()
    lab.change(task, status=running_at(lab, "10.98.0.64/24", "fd00::4/64"))
    changes = tables.apply(lab.store.view, lab.store.take_events())
    (endpoint,) = tables.difference("wire-id", changes["wire-id"]).endpoints
    assert (endpoint.id, endpoint.addresses, endpoint.serving) == (task.id, ["10.98.0.64", "fd00::4"], True)
    assert [peer.id for peer in tables.complete("wire-id").peers] == ["n1"]
    assert list(tables.withdraw(lab.store.view, task.id)) == ["wire-id"]


def test_what_a_node_keeps_to_itself_is_told_to_nobody(lab: Lab) -> None:
    task = on_wire(lab, "bridge")
    tables = NetworkTables(lab.store.view)
    lab.change(task, status=running_at(lab, "172.18.0.2/16"))
    lab.put(Attachment(id="a", node_id="n1", network_id="wire-id", container_id="c2", addresses=["172.18.0.3"]))
    tables = NetworkTables(lab.store.view)
    assert shape(tables.complete("wire-id")) == ({}, {}, {})


def test_a_container_of_its_own_on_the_wire_is_told_of(lab: Lab) -> None:
    on_wire(lab, "macvlan")
    lab.put(
        Attachment(id="a", node_id="n1", network_id="wire-id", container_id="c2", name="box", addresses=["10.98.0.9"])
    )
    (endpoint,) = NetworkTables(lab.store.view).complete("wire-id").endpoints
    assert (endpoint.names, endpoint.addresses) == (["box", "c2"], ["10.98.0.9"])


def test_a_services_address_and_ports_are_told_where_it_is(lab: Lab) -> None:
    with_nodes(lab, "n1")
    web = lab.service("web", 1, networks=ON_APP, spec={**PUBLISHED, "labels": {"enxame.network.x": "1", "other": "2"}})
    lab.settle()
    tables = NetworkTables(lab.store.view)
    (there,) = tables.complete("app").services
    (published,) = tables.complete("ingress").services
    vips = {vip.network_id: vip.addr.partition("/")[0] for vip in lab.get(web).endpoint.virtual_ips}
    assert (there.name, there.vip, there.aliases, there.ports) == ("web", vips["app"], ["front"], [])
    assert there.labels == {"enxame.network.x": "1"}
    assert (published.vip, [port.published_port for port in published.ports]) == (vips["ingress"], [8080])
    assert [port.published_port for port in tables.complete("ingress").endpoints[0].ports] == [8080]


def test_over_ipv6_a_service_has_an_address_and_a_node_without_it_no_containers(lab: Lab) -> None:
    with_nodes(lab, "n1")
    lab.put(Network(id="both", spec=NetworkSpec(name="both", ipv6_enabled=True)))
    web = lab.service("web", 1, networks=[NetworkAttachmentConfig(target="both")])
    lab.settle()
    tables = NetworkTables(lab.store.view)
    (service,) = tables.complete("both").services
    assert (":" in service.vip, ":" in service.vip6) == (False, True)
    (endpoint,) = tables.complete("both").endpoints
    assert [":" in address for address in endpoint.addresses] == [False, True]
    lab.store.take_events()
    node = lab.store.view.get(Node, "n1")
    assert node is not None
    lab.change(node, description=replace(node.description, ipv4_only=True))
    changes = tables.apply(lab.store.view, lab.store.take_events())
    (told,) = tables.difference("both", changes["both"]).endpoints
    assert told.addresses == endpoint.addresses[:1]
    assert lab.tasks(web)[0].networks_attachments[0].addresses[1:]  # it keeps what it was given


def test_a_node_that_is_down_takes_its_endpoints_with_it_and_brings_them_back(lab: Lab) -> None:
    with_nodes(lab, "n1", "n2")
    lab.service("web", 2, networks=ON_APP)
    lab.settle()
    tables = NetworkTables(lab.store.view)
    assert {peer.id for peer in tables.complete("app").peers} == {"n1", "n2"}
    node = lab.store.view.get(Node, "n2")
    assert node is not None
    lab.store.take_events()
    before = shape(tables.complete("app"))
    lab.change(node, status=replace(node.status, state="down"))
    tables.apply(lab.store.view, lab.store.take_events())
    assert {entry.node_id for entry in tables.complete("app").endpoints} == {"n1"}
    assert {peer.id for peer in tables.complete("ingress").peers} == {"n1"}
    lab.change(node, status=replace(node.status, state="ready"))
    tables.apply(lab.store.view, lab.store.take_events())
    assert shape(tables.complete("app")) == before
    lab.change(node, status=replace(node.status, addr="192.0.2.99"))
    tables.apply(lab.store.view, lab.store.take_events())
    assert {entry.data_path for entry in tables.complete("app").endpoints} == {"192.0.2.1", "192.0.2.99"}


def test_a_task_that_is_about_to_stop_serves_no_more_though_it_still_runs(lab: Lab) -> None:
    with_nodes(lab, "n1")
    web = lab.service("web", 1, networks=ON_APP)
    lab.settle()
    task = lab.tasks(web)[0]
    lab.report(task, TaskState.RUNNING)
    tables = NetworkTables(lab.store.view)
    lab.store.take_events()
    assert tables.networks_of(task.id) == ("app",)
    assert list(tables.withdraw(lab.store.view, task.id)) == ["app"]
    assert [entry.serving for entry in tables.complete("app").endpoints] == [False]
    assert tables.withdraw(lab.store.view, task.id) == {}
    lab.report(task, TaskState.FAILED)
    tables.apply(lab.store.view, lab.store.take_events())
    assert tables.networks_of(task.id) == ()
    assert tables.withdraw(lab.store.view, task.id) == {}


def test_nodes_are_told_only_of_networks_that_they_are_on_and_of_ingress(lab: Lab) -> None:
    with_nodes(lab, "n1", "n2")
    tables = NetworkTables(lab.store.view)
    one, two = NodeAssignments("n1", tables), NodeAssignments("n2", tables)
    assert [table.network_id for table in one.complete(lab.store.view).tables] == ["ingress"]
    two.complete(lab.store.view)
    lab.store.take_events()
    seen = len(lab.events)
    lab.service("web", 1, networks=ON_APP)
    lab.settle()
    events = [*lab.events[seen:], *lab.store.take_events()]
    changes = tables.apply(lab.store.view, events)
    (task,) = lab.tasks()
    there, elsewhere = (one, two) if task.node_id == "n1" else (two, one)
    assert not there.tables_changed(changes)
    assert not elsewhere.tables_changed(changes)
    message = there.update(lab.store.view, route(events)[0][task.node_id])
    assert message is not None
    assert [(table.network_id, table.complete, len(table.endpoints)) for table in message.tables] == [("app", True, 1)]
    lab.report(task, TaskState.RUNNING)
    changes = tables.apply(lab.store.view, lab.store.take_events())
    assert there.tables_changed(changes)
    message = there.update(lab.store.view, [])
    assert message is not None
    assert [(table.complete, table.endpoints[0].serving) for table in message.tables] == [(False, True)]


class Told:
    """What a node knows, from what it is told."""

    def __init__(self) -> None:
        self.known = Known()
        self.changes: list[TableChange] = []

    async def take(self, message: Assignments) -> None:
        await self.known.set(message.tables, complete=message.complete)
        for network_id in message.removed_networks:
            await self.known.drop(network_id)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["scale", "run", "fail", "remove", "down", "up"]), st.integers(0, 4))))
async def test_differences_add_up_to_the_complete_tables(steps: list[tuple[str, int]]) -> None:
    lab = Lab()
    with_nodes(lab, "n1", "n2", "n3")
    services = [lab.service(name, 2, networks=ON_APP, spec=PUBLISHED if name == "a" else None) for name in ("a", "b")]
    lab.settle()
    lab.store.take_events()
    tables = NetworkTables(lab.store.view)
    session, told = NodeAssignments("n1", tables), Told()
    await told.take(session.complete(lab.store.view))
    seen = len(lab.events)
    for operation, number in steps:
        service = services[number % 2]
        node = lab.store.view.get(Node, f"n{number % 3 + 1}")
        assert node is not None
        if operation in ("down", "up"):
            lab.change(node, status=replace(node.status, state="ready" if operation == "up" else "down"))
        elif operation in ("scale", "remove"):
            if lab.store.view.get(type(service), service.id) is None:
                continue
            lab.scale(service, number) if operation == "scale" else lab.delete(lab.get(service))
        elif lab.tasks():
            task = lab.tasks()[number % len(lab.tasks())]
            state = TaskState.FAILED if operation == "fail" else TaskState.RUNNING
            if task.node_id and task.status.state < state:
                lab.report(task, state)
        lab.settle()
        events, seen = lab.events[seen:], len(lab.events)
        session.tables_changed(tables.apply(lab.store.view, events))
        message = session.update(lab.store.view, events)
        if message is not None:
            await told.take(message)
    fresh = NetworkTables(lab.store.view)
    for network_id in ("app", "ingress"):
        assert shape(fresh.complete(network_id)) == shape(tables.complete(network_id))
        known = told.known.get(network_id)
        if known is not None:
            assert (known.endpoints, known.services, known.peers) == shape(tables.complete(network_id))
    assert told.known.get("ingress") is not None


def test_an_event_costs_the_same_however_large_the_swarm_is(lab: Lab) -> None:
    with_nodes(lab, "n1", "n2", "n3")
    for number in range(20):
        lab.service(f"s{number}", 10, networks=ON_APP)
    lab.settle()
    tables = NetworkTables(lab.store.view)
    lab.store.take_events()
    task = lab.tasks()[0]
    lab.report(task, TaskState.RUNNING)
    events = lab.store.take_events()
    began = time.perf_counter()
    changes = tables.apply(lab.store.view, events)
    told = tables.difference("app", changes["app"])
    assert time.perf_counter() - began < allowed(0.02)
    assert [entry.id for entry in told.endpoints] == [task.id]
    assert not told.services
    assert not told.peers
