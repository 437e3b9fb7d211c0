from __future__ import annotations

from collections import Counter

from enxame.model.task import TaskState
from tests.unit.control.lab import Lab


def test_replicas_unset_means_one(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 0)
    assert lab.tasks(web) == []
    lab.scale(web, 3)
    assert [task.slot for task in lab.tasks(web)] == [1, 2, 3]


def test_scaling_down_takes_from_the_fullest_nodes_and_keeps_running_ones(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 4)
    lab.play()
    lab.node("n2")
    lab.scale(web, 6)
    lab.play()
    assert Counter(task.node_id for task in lab.wanted(web)) == {"n1": 4, "n2": 2}
    lab.scale(web, 4)
    lab.play()
    assert Counter(task.node_id for task in lab.wanted(web)) == {"n1": 2, "n2": 2}
    assert len(lab.tasks(web)) == 4


def test_scaling_down_prefers_to_remove_what_does_not_run(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 3)
    lab.settle()
    first, *others = lab.tasks(web)
    for task in others:
        lab.report(task, TaskState.RUNNING)
    lab.settle()
    lab.scale(web, 2)
    assert lab.task(first).desired_state is TaskState.REMOVE


def test_the_lowest_free_slots_are_used_and_wait_for_what_still_stops_there(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 3)
    lab.play()
    lab.scale(web, 1)
    lab.settle()
    kept = lab.wanted(web)[0]
    lab.scale(web, 2)
    fresh = lab.tasks(web)[-1]
    assert fresh.slot in {1, 2, 3} - {kept.slot}
    assert fresh.desired_state is TaskState.READY
    lab.play()
    assert lab.task(fresh).status.state is TaskState.RUNNING
    assert len(lab.tasks(web)) == 2


def test_a_task_that_somebody_deleted_is_made_anew(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 2)
    lab.play()
    lab.delete(lab.tasks(web)[0])
    lab.play()
    assert sorted(task.slot for task in lab.wanted(web)) == [1, 2]


def test_thousands_of_tasks_are_made_and_removed_in_passes_of_two_hundred(lab: Lab) -> None:
    for number in range(5):
        lab.node(f"n{number}")

    def wanted_after_each_pass() -> list[int]:
        counts = [len(lab.wanted(web))]
        while lab.wake is not None and lab.wake <= lab.clock.mono:
            lab.step()
            counts.append(len(lab.wanted(web)))
        return counts

    web = lab.service("web", 450)
    assert wanted_after_each_pass() == [200, 400, 450]
    assert sorted(task.slot for task in lab.wanted(web)) == list(range(1, 451))
    lab.settle()
    assert Counter(task.node_id for task in lab.wanted(web)) == dict.fromkeys((f"n{n}" for n in range(5)), 90)
    lab.scale(web, 10)
    assert wanted_after_each_pass() == [250, 50, 10]
    lab.play()
    lab.scale(web, 300)
    assert wanted_after_each_pass() == [210, 300]
    lab.delete(web)
    lab.step()
    assert wanted_after_each_pass() == [100, 0]
    lab.play()
    assert lab.tasks(web) == []
