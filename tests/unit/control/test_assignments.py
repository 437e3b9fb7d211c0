from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from enxame.control.assignments import NodeAssignments, route
from enxame.control.network_table import NetworkTables
from enxame.model.attachment import Attachment
from enxame.model.cluster import Driver
from enxame.model.dispatch import Assignments
from enxame.model.network import Network, NetworkSpec
from enxame.model.secret import Config, ConfigSpec, Secret, SecretSpec
from enxame.model.service import (
    ConfigReference,
    ContainerSpec,
    EndpointSpec,
    NetworkAttachmentConfig,
    PortConfig,
    SecretReference,
)
from enxame.model.task import TaskState
from tests.unit.control.lab import Lab

PUBLISHED: dict[str, Any] = {"endpoint_spec": EndpointSpec(ports=[PortConfig(target_port=80, published_port=8080)])}


class Session:
    """A node's session, and what the node then has."""

    def __init__(self, lab: Lab, node_id: str) -> None:
        self._lab = lab
        self.tables = NetworkTables(lab.store.view)
        self.told = NodeAssignments(node_id, self.tables)
        self.have: dict[str, set[str]] = {}
        self.desired: dict[str, TaskState] = {}
        self._seen = len(lab.events)
        self._take(self.told.complete(lab.store.view))

    def next(self) -> Assignments | None:
        """Let the leader work, and take in what changed."""
        self._lab.settle()
        events, self._seen = self._lab.events[self._seen :], len(self._lab.events)
        self.told.tables_changed(self.tables.apply(self._lab.store.view, events))
        message = self.told.update(self._lab.store.view, events)
        if message is not None:
            self._take(message)
        return message

    def _take(self, message: Assignments) -> None:
        for kind, objects, removed in (
            ("tasks", message.tasks, message.removed_tasks),
            ("networks", message.networks, message.removed_networks),
            ("secrets", message.secrets, message.removed_secrets),
            ("configs", message.configs, message.removed_configs),
        ):
            have = set() if message.complete else self.have.get(kind, set())
            assert have >= set(removed), "nothing is taken away that was not there"
            self.have[kind] = (have - set(removed)) | {obj.id for obj in objects}
        self.desired.update({task.id: task.desired_state for task in message.tasks})


def container(secrets: list[str], configs: list[str]) -> ContainerSpec:
    return ContainerSpec(
        image="v1",
        secrets=[SecretReference(secret_id=name) for name in secrets],
        configs=[ConfigReference(config_id=name) for name in configs],
    )


def test_a_node_is_told_its_own_tasks_and_only_what_they_need(lab: Lab) -> None:
    lab.node("n1")
    lab.node("n2")
    for name in ("s1", "s2"):
        lab.put(Secret(id=name, spec=SecretSpec(name=name)), Config(id=f"c{name}", spec=ConfigSpec(name=name)))
    lab.put(Network(id="net", spec=NetworkSpec(name="net")), Network(id="idle", spec=NetworkSpec(name="idle")))
    lab.settle()
    session = Session(lab, "n1")
    assert session.have == {"tasks": set(), "networks": {"ingress"}, "secrets": set(), "configs": set()}
    web = lab.service("web", 2, container=container(["s1"], ["cs1"]), networks=[NetworkAttachmentConfig(target="net")])
    session.next()
    assert session.have == {
        "tasks": {task.id for task in lab.tasks(web) if task.node_id == "n1"},
        "networks": {"ingress", "net"},
        "secrets": {"s1"},
        "configs": {"cs1"},
    }


def test_a_network_that_came_with_an_attachment_goes_though_the_node_was_never_sent_it(lab: Lab) -> None:
    lab.node("n1")
    lab.put(Network(id="net", spec=NetworkSpec(name="net", attachable=True)))
    lab.settle()
    session = Session(lab, "n1")
    wish = Attachment(id="a", node_id="n1", network_id="net", container_id="c")
    lab.put(wish)
    lab.settle()
    answered = lab.store.view.get(Attachment, "a")
    assert answered is not None
    assert answered.addresses
    session.have["networks"].add("net")  # the answer has it
    lab.delete(answered)
    message = session.next()
    assert message is not None
    assert message.removed_networks == ["net"]
    # While somebody else needs it, it stays.
    lab.put(wish, replace(wish, id="b"))
    session.next()
    found = lab.store.view.get(Attachment, "a")
    assert found is not None
    lab.delete(found)
    session.next()
    assert session.have["networks"] == {"ingress", "net"}


def test_a_network_that_nodes_make_comes_with_what_is_on_it_and_goes_with_the_last(lab: Lab) -> None:
    lab.node("n1")
    bridge = Driver(name="bridge")
    lab.put(Network(id="own", spec=NetworkSpec(name="own", driver_configuration=bridge, attachable=True)))
    lab.settle()
    session = Session(lab, "n1")
    web = lab.service("web", 1, networks=[NetworkAttachmentConfig(target="own")])
    message = session.next()
    assert message is not None
    assert session.have["networks"] == {"ingress", "own"}
    assert [table.network_id for table in message.tables] == [], "nobody else is on it"
    box = Attachment(id="a", node_id="n1", network_id="own", container_id="c")
    lab.put(box)
    lab.scale(web, 0)
    lab.play()
    session.next()
    assert session.have["networks"] == {"ingress", "own"}
    lab.delete(box)
    session.next()
    assert session.have["networks"] == {"ingress"}
    # One that came and went before the node was told: it has the network from the answer.
    lab.put(box)
    session.have["networks"].add("own")
    lab.delete(box)
    session.next()
    assert session.have["networks"] == {"ingress"}


def test_secrets_go_when_the_last_task_that_needs_them_has_ended(lab: Lab) -> None:
    lab.node("n1")
    lab.put(Secret(id="s1", spec=SecretSpec(name="s1")))
    lab.settle()
    session = Session(lab, "n1")
    web = lab.service("web", 2, container=container(["s1"], []))
    session.next()
    assert session.have["secrets"] == {"s1"}
    lab.scale(web, 0)
    session.next()
    first, second = lab.tasks(web)
    lab.report(first, TaskState.SHUTDOWN)
    session.next()
    assert session.have["secrets"] == {"s1"}
    lab.report(second, TaskState.SHUTDOWN)
    session.next()
    assert session.have["secrets"] == set()


def test_what_was_deleted_while_it_was_in_use_goes_with_its_last_user(lab: Lab) -> None:
    lab.node("n1")
    lab.put(Secret(id="s1", spec=SecretSpec(name="s1")))
    lab.settle()
    session = Session(lab, "n1")
    web = lab.service("web", 1, container=container(["s1"], []))
    session.next()
    secret = lab.store.view.get(Secret, "s1")
    assert secret is not None
    lab.delete(secret)
    session.next()
    assert session.have["secrets"] == {"s1"}
    lab.scale(web, 0)
    session.next()
    lab.report(lab.tasks(web)[0], TaskState.SHUTDOWN)
    session.next()
    assert session.have["secrets"] == set()


def test_statuses_are_no_news_to_the_node_but_desired_states_are(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 1)
    lab.settle()
    session = Session(lab, "n1")
    task = lab.tasks(web)[0]
    for state in (TaskState.ACCEPTED, TaskState.PREPARING, TaskState.READY, TaskState.RUNNING):
        lab.report(task, state)
        assert session.next() is None
    lab.scale(web, 0)
    message = session.next()
    assert message is not None
    assert [task.desired_state for task in message.tasks] == [TaskState.REMOVE]
    lab.report(task, TaskState.SHUTDOWN)
    message = session.next()
    assert message is not None
    assert message.removed_tasks == [task.id]
    assert session.have["tasks"] == set()


def test_other_nodes_tasks_are_no_news(lab: Lab) -> None:
    lab.node("n1")
    session = Session(lab, "n2")
    lab.service("web", 3)
    assert session.next() is None


def test_orphaned_tasks_are_not_given_back_to_a_node(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 1)
    lab.settle()
    lab.report(lab.tasks(web)[0], TaskState.ORPHANED)
    assert Session(lab, "n1").have["tasks"] == set()


def test_events_are_routed_to_the_nodes_they_concern(lab: Lab) -> None:
    lab.node("n1")
    lab.node("n2")
    lab.settle()
    seen = len(lab.events)
    lab.put(Secret(id="s1", spec=SecretSpec(name="s1")))
    lab.service("web", 2)
    lab.settle()
    own, shared = route(lab.events[seen:])
    assert sorted(own) == ["n1", "n2"]
    assert [event.object.id for event in shared] == ["s1"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["scale", "fail", "run", "update", "remove"]), st.integers(0, 4)), max_size=12)
)
def test_differences_add_up_to_the_complete_set(steps: list[tuple[str, int]]) -> None:
    lab = Lab()
    lab.node("n1")
    lab.node("n2")
    lab.put(Secret(id="s1", spec=SecretSpec(name="s1")))
    services = [lab.service(name, 1, spec=PUBLISHED if name == "a" else None) for name in ("a", "b")]
    lab.settle()
    session = Session(lab, "n1")
    for operation, number in steps:
        service = services[number % len(services)]
        tasks = lab.tasks()
        if lab.store.view.get(type(service), service.id) is None:
            continue
        if operation == "scale":
            lab.scale(service, number)
        elif operation == "update":
            lab.update(service, container_spec=container(["s1"] if number % 2 else [], []), force_update=number)
        elif operation == "remove":
            lab.delete(lab.get(service))
        elif tasks:
            task = tasks[number % len(tasks)]
            state = TaskState.FAILED if operation == "fail" else TaskState.RUNNING
            if task.node_id and task.status.state < state:
                lab.report(task, state)
        session.next()
    session.next()
    assert session.have == Session(lab, "n1").have
    for task in lab.tasks():
        if task.id in session.have["tasks"]:
            assert session.desired[task.id] is task.desired_state
