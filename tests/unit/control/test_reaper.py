from __future__ import annotations

import pytest
from msgspec.structs import replace

from enxame.model.cluster import Cluster, OrchestrationConfig, SwarmSpec
from enxame.model.service import Service
from enxame.model.task import TaskState
from tests.unit.control.lab import Lab, policy


def limit(lab: Lab, retained: int | None) -> None:
    cluster = lab.store.view.get(Cluster, "cluster")
    assert cluster is not None
    lab.change(cluster, spec=SwarmSpec(orchestration=OrchestrationConfig(task_history_retention_limit=retained)))
    lab.settle()


def fail_often(lab: Lab, service: Service, times: int) -> None:
    for _ in range(times):
        lab.play()
        lab.report(lab.wanted(service)[0], TaskState.FAILED)
    lab.play()


@pytest.mark.parametrize(("retained", "kept"), [(None, 5), (5, 5), (2, 2), (0, 1), (-1, 9)])
def test_a_slot_keeps_so_many_tasks(lab: Lab, retained: int | None, kept: int) -> None:
    limit(lab, retained)
    lab.node("n1")
    web = lab.service("web", 1, restart_policy=policy(delay=0))
    fail_often(lab, web, 8)
    assert len(lab.tasks(web)) == kept
    assert lab.tasks(web)[-1].status.state is TaskState.RUNNING


def test_enough_history_for_the_count_of_attempts_is_kept(lab: Lab) -> None:
    limit(lab, 1)
    lab.node("n1")
    web = lab.service("web", 1, restart_policy=policy(delay=0, attempts=3))
    for _ in range(6):
        lab.play()
        for task in lab.wanted(web):
            lab.report(task, TaskState.FAILED)
    lab.play()
    assert len(lab.tasks(web)) == 4


def test_a_lower_limit_takes_hold_at_once(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 1, restart_policy=policy(delay=0))
    fail_often(lab, web, 6)
    limit(lab, 2)
    assert len(lab.tasks(web)) == 2


def test_without_history_a_task_that_may_rest_stays(lab: Lab) -> None:
    """Else the service would start it again and again."""
    limit(lab, 0)
    lab.node("n1")
    web = lab.service("web", 1, restart_policy=policy("none"))
    lab.play()
    lab.report(lab.tasks(web)[0], TaskState.COMPLETE)
    lab.play()
    lab.elect()
    assert [task.status.state for task in lab.tasks(web)] == [TaskState.COMPLETE]


def test_removed_tasks_go_once_they_have_stopped(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 2)
    lab.play()
    lab.scale(web, 0)
    lab.settle()
    assert len(lab.tasks(web)) == 2
    lab.play()
    assert lab.tasks(web) == []


def test_removed_tasks_that_never_got_a_node_go_at_once(lab: Lab) -> None:
    web = lab.service("web", 2)
    assert len(lab.tasks(web)) == 2
    lab.scale(web, 0)
    lab.settle()
    assert lab.tasks(web) == []


def test_tasks_of_a_removed_node_are_orphaned(lab: Lab) -> None:
    node = lab.node("n1")
    web = lab.service("web", 1)
    lab.play()
    lab.node("n2")
    lab.delete(node)
    lab.settle()
    old = lab.tasks(web)[0]
    assert (old.status.state, old.desired_state) == (TaskState.ORPHANED, TaskState.SHUTDOWN)
    lab.change(lab.get(web), spec=replace(lab.get(web).spec, name="web"))
    lab.play()
    assert lab.wanted(web)[0].node_id == "n2"
