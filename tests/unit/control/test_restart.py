from __future__ import annotations

import pytest
from msgspec.structs import replace

from enxame.model.node import NodeStatus
from enxame.model.task import TaskState
from tests.unit.control.lab import Lab, policy


def test_a_failed_task_is_replaced_after_the_delay(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 1, restart_policy=policy(delay=5))
    lab.play()
    old = lab.tasks(web)[0]
    lab.report(old, TaskState.FAILED)
    lab.play()
    fresh = lab.tasks(web)[1]
    assert lab.task(old).desired_state is TaskState.SHUTDOWN
    assert (fresh.desired_state, fresh.status.state) == (TaskState.READY, TaskState.READY)
    assert lab.wake == pytest.approx(5)
    lab.pass_time(4.9)
    assert lab.task(fresh).desired_state is TaskState.READY
    lab.pass_time(0.2)
    assert lab.task(fresh).desired_state is TaskState.RUNNING


@pytest.mark.parametrize(
    ("condition", "end", "restarted"),
    [
        ("any", TaskState.COMPLETE, True),
        ("any", TaskState.FAILED, True),
        ("", TaskState.COMPLETE, True),
        ("on-failure", TaskState.COMPLETE, False),
        ("on-failure", TaskState.FAILED, True),
        ("on-failure", TaskState.REJECTED, True),
        ("none", TaskState.FAILED, False),
        ("none", TaskState.COMPLETE, False),
    ],
)
def test_the_condition_decides(lab: Lab, condition: str, end: TaskState, restarted: bool) -> None:
    lab.node("n1")
    web = lab.service("web", 1, restart_policy=policy(condition, delay=0))
    lab.play()
    lab.report(lab.tasks(web)[0], end)
    lab.play()
    assert len(lab.tasks(web)) == (2 if restarted else 1)


def test_attempts_are_counted_per_slot_and_spec(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 1, restart_policy=policy(delay=0, attempts=2))
    for _ in range(5):
        lab.play()
        for task in lab.wanted(web):
            lab.report(task, TaskState.FAILED)
    lab.play()
    assert len(lab.tasks(web)) == 3
    lab.elect()
    assert len(lab.tasks(web)) == 3, "a new leader counts the same"
    lab.update(web, force_update=1)
    lab.play()
    assert len(lab.wanted(web)) == 1, "a new spec starts anew"


def test_only_attempts_within_the_window_count(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 1, restart_policy=policy(delay=0, attempts=1, window=10))
    lab.play()
    lab.report(lab.wanted(web)[0], TaskState.FAILED)
    lab.play()
    lab.pass_time(20)
    lab.report(lab.wanted(web)[0], TaskState.FAILED)
    lab.play()
    assert len(lab.wanted(web)) == 1
    lab.report(lab.wanted(web)[0], TaskState.FAILED)
    lab.play()
    assert lab.wanted(web) == []


def test_a_replacement_that_fails_while_it_waits_does_not_restart_earlier(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 1, restart_policy=policy(delay=5))
    lab.play()
    lab.report(lab.tasks(web)[0], TaskState.FAILED)
    lab.settle()
    lab.report(lab.tasks(web)[1], TaskState.REJECTED, "No such image: x")
    lab.settle()
    assert len(lab.tasks(web)) == 2
    lab.pass_time(5)
    assert len(lab.tasks(web)) == 3
    assert lab.tasks(web)[2].desired_state is TaskState.READY


def test_a_drained_nodes_task_moves_without_delay_once_it_has_stopped(lab: Lab) -> None:
    node = lab.node("n1")
    web = lab.service("web", 1)
    lab.play()
    lab.node("n2")
    old = lab.tasks(web)[0]
    lab.change(node, spec=replace(node.spec, availability="drain"))
    lab.play(exclude=(old.id,))
    fresh = lab.tasks(web)[1]
    assert (fresh.node_id, fresh.status.state) == ("n2", TaskState.READY)
    lab.report(old, TaskState.SHUTDOWN)
    lab.settle()
    assert lab.task(fresh).desired_state is TaskState.RUNNING


def test_a_lost_nodes_task_is_replaced_without_waiting_for_it(lab: Lab) -> None:
    node = lab.node("n1")
    web = lab.service("web", 1)
    lab.play()
    lab.node("n2")
    lab.change(node, status=NodeStatus(state="down"))
    lab.settle()
    old, fresh = lab.tasks(web)
    assert old.status.state is TaskState.RUNNING
    assert old.desired_state is TaskState.SHUTDOWN
    assert (fresh.node_id, fresh.desired_state) == ("n2", TaskState.RUNNING)


def test_a_task_that_does_not_stop_holds_its_successor_up_only_so_long(lab: Lab) -> None:
    node = lab.node("n1")
    web = lab.service("web", 1)
    lab.play()
    lab.node("n2")
    old = lab.tasks(web)[0]
    lab.change(node, spec=replace(node.spec, availability="drain"))
    lab.play(exclude=(old.id,))
    lab.pass_time(60)
    assert lab.tasks(web)[1].desired_state is TaskState.READY
    lab.pass_time(15)
    assert lab.tasks(web)[1].desired_state is TaskState.RUNNING


def test_a_new_leader_keeps_the_rest_of_a_delay(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 1, restart_policy=policy(delay=5))
    lab.play()
    lab.report(lab.tasks(web)[0], TaskState.FAILED)
    lab.play()
    lab.pass_time(3)
    lab.elect()
    assert lab.tasks(web)[1].desired_state is TaskState.READY
    assert lab.wake == pytest.approx(5)
    lab.pass_time(2)
    assert lab.tasks(web)[1].desired_state is TaskState.RUNNING


def test_the_newest_task_of_a_slot_stays_so_when_people_s_clock_is_set_back(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 1, restart_policy=policy("any", delay=0))
    lab.play()
    lab.clock.shift = -3600
    (first,) = lab.tasks(web)
    lab.report(first, TaskState.FAILED, "gone")
    lab.play()
    (newest,) = lab.wanted(web)
    assert newest.created_at > first.created_at
    lab.elect()
    lab.play()
    assert [task.id for task in lab.wanted(web)] == [newest.id]


def test_attempts_are_not_held_against_a_slot_for_longer_when_people_s_clock_is_set_back(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 1, restart_policy=policy("any", delay=0, attempts=1, window=10))
    lab.play()
    lab.report(lab.wanted(web)[0], TaskState.FAILED, "gone")
    lab.play()
    lab.clock.shift = -3600
    lab.elect()
    lab.pass_time(11)
    lab.report(lab.wanted(web)[0], TaskState.FAILED, "gone")
    lab.play()
    assert len(lab.wanted(web)) == 1


def test_a_slot_that_was_given_up_rests_when_the_window_has_passed_too(lab: Lab) -> None:
    """The count is that of the window before the end, whoever looks, and whenever."""
    lab.node("n1")
    web = lab.service("web", 1, restart_policy=policy("any", delay=0, attempts=1, window=10))
    lab.play()
    for _ in range(2):
        lab.report(lab.wanted(web)[0], TaskState.FAILED, "gone")
        lab.play()
    assert lab.wanted(web) == []
    lab.pass_time(3600)
    lab.scale(web, 2)
    lab.play()
    assert [task.slot for task in lab.wanted(web)] == [2]
    lab.elect()
    lab.play()
    assert [task.slot for task in lab.wanted(web)] == [2], "a new leader sees the same"
    lab.update(web, force_update=1)
    lab.play()
    lab.pass_time(60)
    assert sorted(task.slot for task in lab.wanted(web)) == [1, 2], "another spec begins anew"


def test_a_node_that_was_away_gets_its_global_task_again_after_the_window(lab: Lab) -> None:
    node = lab.node("n1")
    web = lab.service("web", -1, restart_policy=policy("any", delay=0, attempts=1, window=10))
    lab.play()
    lab.report(lab.wanted(web)[0], TaskState.FAILED, "gone")
    lab.play()
    lab.pass_time(60)
    lab.change(node, spec=replace(node.spec, availability="drain"))
    lab.play()
    assert lab.wanted(web) == []
    lab.elect()
    lab.change(node, spec=replace(node.spec, availability="active"))
    lab.play()
    assert len(lab.wanted(web)) == 1
