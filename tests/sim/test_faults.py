"""Single faults in a simulated swarm, and what exactly they may change. Mixtures are in ``test_simulation.py``."""

from __future__ import annotations

import random

import pytest

from enxame.control.heartbeats import BRAKE_LIMIT, FLAPS
from enxame.model.node import Node
from enxame.model.service import ContainerSpec, ReplicatedService, Service, ServiceMode, ServiceSpec, TaskSpec
from enxame.model.task import Task, TaskState
from enxame.testing.invariants import DRAINED_WITHIN
from enxame.testing.sim_swarm import SimSwarm
from enxame.testing.sim_users import SimUsers


class Life:
    """A swarm of so many nodes that runs a service with two tasks a node."""

    def __init__(self, nodes: int) -> None:
        self.swarm = swarm = SimSwarm(1)
        self.users = SimUsers(swarm, random.Random(1), nodes)
        swarm.commit(self.users.found, user=True)
        swarm.start_leader()
        for _ in range(nodes):
            self.users.join_node()
        self.wait(2)
        assert self.create("web", 2 * nodes)
        self.wait(10)
        self.links = [swarm.links[node_id] for node_id in sorted(swarm.links)]

    def create(self, name: str, replicas: int) -> bool:
        spec = ServiceSpec(
            name=name,
            mode=ServiceMode(replicated=ReplicatedService(replicas=replicas)),
            task_template=TaskSpec(container_spec=ContainerSpec(image="ok")),
        )
        return self.swarm.ask(lambda tx: tx.create(Service(id=name, spec=spec)))

    def wait(self, seconds: float) -> None:
        end = self.swarm.clock.mono + seconds
        while self.swarm.clock.mono < end:
            self.swarm.clock.run_until(min(end, self.swarm.clock.mono + 5))
            self.swarm.invariants.probe()

    def tasks(self) -> dict[str, TaskState]:
        return {task.id: task.status.state for task in self.swarm.store.view.all(Task)}

    def states(self) -> list[str]:
        return [self.swarm.store.view.get(Node, link.node_id).status.state for link in self.links]  # type: ignore[union-attr]

    def running(self) -> int:
        return sum(
            task.status.state is TaskState.RUNNING and task.desired_state is TaskState.RUNNING
            for task in self.swarm.store.view.all(Task)
        )


@pytest.fixture
def life() -> Life:
    return Life(8)


def test_losing_much_of_the_swarm_at_once_moves_nothing_until_it_is_back(life: Life) -> None:
    before = life.tasks()
    for link in life.links[:6]:
        link.cut()
    life.wait(BRAKE_LIMIT / 2)
    assert life.states() == ["unknown"] * 6 + ["ready"] * 2
    assert life.tasks() == before
    for link in life.links[:6]:
        link.mend()
    life.wait(15)
    assert life.states() == ["ready"] * 8
    assert life.tasks() == before


def test_a_loss_that_lasts_is_made_up_for_when_the_brake_ends(life: Life) -> None:
    for link in life.links[:6]:
        link.cut()
    life.wait(BRAKE_LIMIT + 30)
    assert life.states() == ["down"] * 6 + ["ready"] * 2
    assert {
        task.node_id
        for task in life.swarm.store.view.all(Task)
        if task.desired_state is TaskState.RUNNING and task.status.state is TaskState.RUNNING
    } == {link.node_id for link in life.links[6:]}


@pytest.mark.parametrize("seconds", [5, 60, 3600])
def test_a_manager_that_hangs_accuses_nobody(life: Life, seconds: float) -> None:
    before = life.tasks()
    life.swarm.hang()
    life.wait(seconds)
    life.swarm.go_on()
    life.wait(60)
    assert life.states() == ["ready"] * 8
    assert life.tasks() == before


def test_daemons_that_restart_in_order_one_after_the_other_move_nothing(life: Life) -> None:
    before = life.tasks()
    for link in life.links:
        link.stop_in_order(20.0)
        life.wait(12)
        link.mend()
        life.wait(3)
    assert life.states() == ["ready"] * 8
    assert life.tasks() == before


def test_a_daemon_that_does_not_come_back_as_it_said_is_replaced(life: Life) -> None:
    link = life.links[0]
    link.stop_in_order(20.0)
    life.wait(19)
    assert life.states()[0] == "ready"
    life.wait(10)
    assert life.states()[0] == "down"
    assert life.running() == 16


@pytest.mark.parametrize(("heard", "hears"), [(True, False), (False, True), (False, False)])
def test_a_cut_in_either_direction_is_noticed_and_nothing_runs_twice_afterwards(
    life: Life, heard: bool, hears: bool
) -> None:
    link = life.links[0]
    link.cut(heard=heard, hears=hears)
    life.wait(10)
    assert life.states()[0] == "down"
    life.wait(10)
    assert life.running() == 16
    link.mend()
    life.wait(30)
    assert life.states()[0] == "ready"
    assert sum(local.runs for other in life.links for local in other.node.tasks.values()) == 16


def test_a_node_that_comes_and_goes_is_kept_out_for_a_while(life: Life) -> None:
    link = life.links[0]
    for _ in range(FLAPS):
        link.cut()
        life.wait(6)
        link.mend()
        life.wait(10)
    assert life.states()[0] == "down"
    assert link.connected
    life.wait(60)
    assert life.states()[0] == "ready"


def test_a_full_disk_refuses_and_says_so_and_nothing_is_half_done(life: Life) -> None:
    before = life.tasks()
    life.swarm.fill_disk(full=True)
    assert not life.create("other", 3)
    life.links[0].node.kill(next(iter(life.links[0].node.tasks)))
    life.wait(60)
    assert life.tasks() == before
    assert life.states() == ["ready"] * 8
    life.swarm.fill_disk(full=False)
    assert life.create("other", 3)
    life.wait(15)
    assert life.running() == 19


def test_what_an_old_leader_wants_to_commit_is_refused(life: Life) -> None:
    life.swarm.stop_leader(late_commit_after=1.0)
    assert not life.create("other", 3), "there is no leader"
    life.wait(0.9999)
    life.swarm.start_leader()
    assert life.create("other", 3), "and the old leader sees it, too"
    life.wait(10)
    assert life.running() == 19
    assert any("the old leader's commit is refused" in line for line in life.swarm.log)


def test_a_drained_node_is_empty_soon(life: Life) -> None:
    node_id = life.links[0].node_id
    life.users._change_node(node_id, lambda spec: type(spec)(role="worker", availability="drain"))
    life.wait(DRAINED_WITHIN + 6)
    assert not any(local.runs for local in life.links[0].node.tasks.values())
    assert life.running() == 16
