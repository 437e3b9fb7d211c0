from __future__ import annotations

from msgspec.structs import replace

from enxame.model.node import NodeStatus
from enxame.model.service import ContainerSpec, Placement
from enxame.model.task import TaskState
from tests.unit.control.lab import Lab, policy


def test_every_node_gets_one_at_once_and_late_ones_too(lab: Lab) -> None:
    for name in ("n1", "n2"):
        lab.node(name)
    web = lab.service("web", -1)
    assert sorted(task.node_id for task in lab.tasks(web)) == ["n1", "n2"]
    assert {task.slot for task in lab.tasks(web)} == {0}
    assert {task.status.state for task in lab.tasks(web)} == {TaskState.ASSIGNED}
    assert {task.status.message for task in lab.tasks(web)} == {"scheduler confirmed task can run on preassigned node"}
    lab.node("n3")
    lab.step()
    assert lab.tasks(web)[-1].node_id == "n3"


def test_constraints_choose_the_nodes_and_follow_their_labels(lab: Lab) -> None:
    node = lab.node("n1", labels={"zone": "a"})
    other = lab.node("n2", labels={"zone": "b"})
    web = lab.service("web", -1, placement=Placement(constraints=["node.labels.zone==a"]))
    assert [task.node_id for task in lab.wanted(web)] == ["n1"]
    lab.change(other, spec=replace(other.spec, labels={"zone": "a"}))
    lab.change(node, spec=replace(node.spec, labels={"zone": "b"}))
    lab.play()
    assert [task.node_id for task in lab.wanted(web)] == ["n2"]


def test_pause_keeps_drain_and_loss_take(lab: Lab) -> None:
    nodes = [lab.node(f"n{i}") for i in range(3)]
    web = lab.service("web", -1)
    lab.play()
    lab.change(nodes[0], spec=replace(nodes[0].spec, availability="pause"))
    lab.change(nodes[1], spec=replace(nodes[1].spec, availability="drain"))
    lab.change(nodes[2], status=NodeStatus(state="down"))
    lab.play()
    assert [task.node_id for task in lab.wanted(web)] == ["n0"]
    lab.change(nodes[1], spec=nodes[1].spec)
    lab.change(nodes[2], status=NodeStatus(state="ready"))
    lab.play()
    assert sorted(task.node_id for task in lab.wanted(web)) == ["n0", "n1", "n2"]


def test_a_failed_task_is_restarted_on_its_node(lab: Lab) -> None:
    lab.node("n1")
    lab.node("n2")
    web = lab.service("web", -1, restart_policy=policy(delay=0))
    lab.play()
    lab.report(lab.wanted(web)[0], TaskState.FAILED)
    lab.play()
    assert sorted(task.node_id for task in lab.wanted(web)) == ["n1", "n2"]


def test_updates_roll_over_the_nodes(lab: Lab) -> None:
    for name in ("n1", "n2", "n3"):
        lab.node(name)
    web = lab.service("web", -1)
    lab.play()
    lab.update(web, container_spec=ContainerSpec(image="v2"))
    assert len(lab.tasks(web)) == 4
    lab.play()
    assert {task.spec.container_spec.image for task in lab.wanted(web) if task.spec.container_spec} == {"v2"}
    assert len(lab.wanted(web)) == 3


def test_removing_the_node_removes_its_task_from_what_is_wanted(lab: Lab) -> None:
    node = lab.node("n1")
    web = lab.service("web", -1)
    lab.play()
    lab.delete(node)
    lab.play()
    assert lab.wanted(web) == []


def test_an_update_makes_nothing_for_a_node_that_was_removed(lab: Lab) -> None:
    lab.node("n1")
    gone = lab.node("n2")
    web = lab.service("web", -1, restart_policy=policy("none"))
    lab.play()
    lab.delete(gone)
    lab.play()
    lab.update(web, container_spec=ContainerSpec(image="other"))
    lab.play()
    assert {task.node_id for task in lab.tasks(web) if task.spec.container_spec.image == "other"} == {"n1"}
