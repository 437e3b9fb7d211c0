from __future__ import annotations

from msgspec.structs import replace

from enxame.model.service import EndpointSpec, PortConfig, Service
from enxame.model.task import TaskState
from tests.unit.control.lab import Lab


def test_a_new_services_tasks_are_assigned_in_one_step(lab: Lab) -> None:
    for name in ("n1", "n2", "n3"):
        lab.node(name)
    web = lab.service("web", 3, spec={"endpoint_spec": EndpointSpec(ports=[PortConfig(target_port=80)])})
    tasks = lab.tasks(web)
    assert [task.slot for task in tasks] == [1, 2, 3]
    assert sorted(task.node_id for task in tasks) == ["n1", "n2", "n3"]
    for task in tasks:
        assert task.status.state is TaskState.ASSIGNED
        assert task.desired_state is TaskState.RUNNING
        assert task.internal is not None
        assert task.internal.service_name == "web"
        assert task.internal.ports == lab.get(web).endpoint.ports
        assert [attachment.network.id for attachment in task.networks_attachments] == ["ingress"]


def test_a_steps_own_events_change_nothing(lab: Lab) -> None:
    lab.node("n1")
    lab.service("web", 3)
    assert not lab.step()
    assert not lab.step()


def test_events_that_come_twice_or_late_do_no_harm(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 2)
    lab.step()
    lab.report(lab.tasks(web)[0], TaskState.FAILED)
    events = lab.store.take_events()
    lab.store.update(lambda tx: lab.leader.step(tx, [*events, *events], lab.clock.now()))
    assert len(lab.tasks(web)) == 3
    lab.store.update(lambda tx: lab.leader.step(tx, events, lab.clock.now()))
    assert len(lab.tasks(web)) == 3


def test_removing_a_service_stops_and_then_forgets_its_tasks(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 2)
    lab.play()
    lab.delete(lab.get(web))
    lab.settle()
    assert {task.desired_state for task in lab.tasks(web)} == {TaskState.REMOVE}
    lab.play()
    assert lab.tasks(web) == []


def test_a_new_leader_heals_what_changed_while_nobody_led(lab: Lab) -> None:
    lab.node("n1")
    node = lab.node("n2")
    web = lab.service("web", 2)
    old = lab.service("old", 1)
    lab.play()
    lab.delete(lab.get(old))
    lab.delete(node)
    lab.elect()
    lab.play()
    assert lab.tasks(old) == []
    assert {task.node_id for task in lab.wanted(web)} == {"n1"}
    assert {task.status.state for task in lab.wanted(web)} == {TaskState.RUNNING}


def test_a_new_leader_finds_nothing_to_do_in_a_swarm_at_rest(lab: Lab) -> None:
    lab.node("n1")
    lab.service("web", 3, spec={"endpoint_spec": EndpointSpec(ports=[PortConfig(target_port=80)])})
    lab.play()
    before = lab.store.revision
    ledger = lab.leader.ledger()
    lab.elect()
    assert lab.store.revision == before
    assert lab.leader.ledger() == ledger


def test_what_others_commit_meanwhile_is_kept(lab: Lab) -> None:
    """The leader decides on a task whose newest status it has not seen yet."""
    lab.node("n1")
    web = lab.service("web", 1)
    lab.step()
    task = lab.tasks(web)[0]
    lab.report(task, TaskState.RUNNING)
    lab.store.take_events()  # not delivered yet
    current = lab.store.view.get(Service, web.id)
    assert current is not None
    lab.change(current, spec=replace(current.spec, mode=replace(current.spec.mode, replicated=None)))
    lab.delete(lab.get(web))
    lab.step()
    assert lab.task(task).status.state is TaskState.RUNNING
    assert lab.task(task).desired_state is TaskState.REMOVE
