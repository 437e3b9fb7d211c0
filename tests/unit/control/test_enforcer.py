from __future__ import annotations

import pytest
from msgspec.structs import replace

from enxame.model.cluster import NANOSECONDS
from enxame.model.network import Network, NetworkSpec
from enxame.model.node import NodeStatus
from enxame.model.service import NetworkAttachmentConfig, Placement, Reservation, ResourceRequirements
from enxame.model.task import TaskState
from tests.unit.control.lab import Lab, policy


def test_a_task_whose_node_was_relabelled_is_rejected_and_runs_elsewhere(lab: Lab) -> None:
    node = lab.node("n1", labels={"zone": "a"})
    web = lab.service(
        "web", 1, placement=Placement(constraints=["node.labels.zone==a"]), restart_policy=policy(delay=0)
    )
    lab.play()
    lab.node("n2", labels={"zone": "a"})
    lab.change(node, spec=replace(node.spec, labels={}))
    lab.settle()
    old, fresh = lab.tasks(web)
    assert (old.status.state, old.status.message, old.status.err) == (
        TaskState.REJECTED,
        "task rejected by constraint enforcer",
        "assigned node no longer meets constraints",
    )
    assert old.desired_state is TaskState.SHUTDOWN
    assert fresh.node_id == "n2"


def test_a_smaller_node_keeps_what_still_fits(lab: Lab) -> None:
    node = lab.node("n1", cpus=4)
    reserve = ResourceRequirements(reservations=Reservation(nano_cpus=NANOSECONDS))
    web = lab.service("web", 3, resources=reserve)
    lab.play()
    smaller = replace(node.description, resources=replace(node.description.resources, nano_cpus=2 * NANOSECONDS))
    lab.change(node, description=smaller)
    lab.settle()
    states = [task.status.state for task in lab.tasks(web)]
    assert states.count(TaskState.RUNNING) == 2
    assert states.count(TaskState.REJECTED) == 1


def test_a_rejected_tasks_addresses_stay_its_own_while_it_may_still_run(lab: Lab) -> None:
    lab.put(Network(id="net", spec=NetworkSpec(name="net")))
    node = lab.node("n1", labels={"zone": "a"})
    lab.service(
        "web",
        1,
        placement=Placement(constraints=["node.labels.zone==a"]),
        networks=[NetworkAttachmentConfig(target="net")],
    )
    lab.play()
    lab.change(node, spec=replace(node.spec, labels={}))
    lab.settle()
    old = lab.tasks()[0]
    ledger = lab.leader.ledger()
    assert ledger[f"addresses of task {old.id}"] == [("net", old.networks_attachments[0].addresses[0])]
    lab.elect()
    assert lab.leader.ledger() == ledger


@pytest.mark.parametrize(("hours", "state"), [(23.9, TaskState.RUNNING), (24.1, TaskState.ORPHANED)])
def test_tasks_of_a_node_that_stays_down_are_given_up_after_a_day(lab: Lab, hours: float, state: TaskState) -> None:
    node = lab.node("n1")
    web = lab.service("web", 1)
    lab.play()
    lab.change(node, status=NodeStatus(state="down"))
    lab.settle()
    lab.pass_time(hours * 3600)
    assert lab.tasks(web)[0].status.state is state
