from __future__ import annotations

from typing import Any

import pytest

from enxame.model.cluster import NANOSECONDS
from enxame.model.service import ContainerSpec, Service, UpdateConfig
from enxame.model.task import TaskState
from tests.unit.control.lab import Lab, policy

NEW = {"container_spec": ContainerSpec(image="v2")}


def config(**fields: Any) -> UpdateConfig:
    return UpdateConfig(**{"parallelism": 1, "monitor": NANOSECONDS, **fields})


def running(lab: Lab, replicas: int, **fields: Any) -> Service:
    for node in ("n1", "n2"):
        lab.node(node)
    service = lab.service("web", replicas, spec={"update_config": config(**fields)}, restart_policy=policy(delay=0))
    lab.play()
    return service


def images(lab: Lab, service: Service) -> list[str]:
    return sorted(task.spec.container_spec.image for task in lab.wanted(service) if task.spec.container_spec)


def state(lab: Lab, service: Service) -> str:
    status = lab.get(service).update_status
    return status.state if status is not None else ""


def under_way(lab: Lab, service: Service) -> int:
    """How many tasks of the new spec there are."""
    return len([t for t in lab.tasks(service) if t.spec.container_spec and t.spec.container_spec.image == "v2"])


@pytest.mark.parametrize(("parallelism", "at_once"), [(1, 1), (2, 2), (0, 5), (9, 5)])
def test_so_many_tasks_at_once_are_replaced(lab: Lab, parallelism: int, at_once: int) -> None:
    web = running(lab, 5, parallelism=parallelism)
    lab.update(web, **NEW)
    assert under_way(lab, web) == at_once
    assert state(lab, web) == "updating"
    lab.play()
    assert images(lab, web) == ["v2"] * 5


def test_stop_first_prepares_the_new_task_while_the_old_one_stops(lab: Lab) -> None:
    web = running(lab, 1)
    old = lab.tasks(web)[0]
    lab.update(web, **NEW)
    fresh = lab.tasks(web)[1]
    assert lab.task(old).desired_state is TaskState.SHUTDOWN
    assert fresh.status.state is TaskState.ASSIGNED
    lab.play(exclude=(old.id,))
    assert lab.task(fresh).status.state is TaskState.READY
    lab.report(old, TaskState.SHUTDOWN)
    lab.settle()
    assert lab.task(fresh).desired_state is TaskState.RUNNING


def test_start_first_stops_the_old_task_once_the_new_one_runs(lab: Lab) -> None:
    web = running(lab, 1, order="start-first")
    old = lab.tasks(web)[0]
    lab.update(web, **NEW)
    fresh = lab.tasks(web)[1]
    assert fresh.desired_state is TaskState.RUNNING
    assert lab.task(old).desired_state is TaskState.RUNNING
    lab.report(fresh, TaskState.RUNNING)
    lab.settle()
    assert lab.task(old).desired_state is TaskState.SHUTDOWN


def test_an_update_completes_when_its_last_task_was_watched_long_enough(lab: Lab) -> None:
    web = running(lab, 2, monitor=3 * NANOSECONDS)
    lab.update(web, **NEW)
    lab.play()
    lab.pass_time(2.9)
    assert state(lab, web) == "updating"
    lab.pass_time(0.2)
    status = lab.get(web).update_status
    assert status is not None
    assert (status.state, status.message) == ("completed", "update completed")
    assert status.completed_at is not None


def test_delay_passes_between_tasks_and_lengthens_the_watch(lab: Lab) -> None:
    web = running(lab, 2, delay=10 * NANOSECONDS)
    lab.update(web, **NEW)
    lab.play()
    assert under_way(lab, web) == 1
    lab.pass_time(9.9)
    lab.play()
    assert under_way(lab, web) == 1
    lab.pass_time(0.2)
    lab.play()
    assert under_way(lab, web) == 2
    lab.pass_time(10.5)
    assert state(lab, web) == "updating", "watched for the delay and one second"
    lab.pass_time(1)
    assert state(lab, web) == "completed"


def fail_new(lab: Lab, service: Service) -> str:
    """The newest task fails; its id."""
    task = lab.tasks(service)[-1]
    lab.report(task, TaskState.FAILED, "task: non-zero exit (1)")
    lab.settle()
    return task.id


def test_a_failure_pauses_the_update(lab: Lab) -> None:
    web = running(lab, 3)
    lab.update(web, **NEW)
    task_id = fail_new(lab, web)
    status = lab.get(web).update_status
    assert status is not None
    assert status.state == "paused"
    assert status.message == f"update paused due to failure or early termination of task {task_id}"
    lab.play()
    assert images(lab, web).count("v1") == 2, "the others stay"
    lab.update(web, force_update=2)
    lab.play()
    lab.pass_time(5)
    assert state(lab, web) == "completed", "a new update goes on"


def test_continue_goes_on(lab: Lab) -> None:
    web = running(lab, 3, failure_action="continue")
    lab.update(web, **NEW)
    fail_new(lab, web)
    lab.play()
    assert images(lab, web) == ["v2"] * 3


def test_only_more_than_the_ratio_of_failures_counts(lab: Lab) -> None:
    web = running(lab, 4, max_failure_ratio=0.25)
    lab.update(web, **NEW)
    fail_new(lab, web)
    assert state(lab, web) == "updating"
    newest = [t for t in lab.tasks(web) if t.desired_state <= TaskState.RUNNING and t.status.state < TaskState.READY]
    lab.report(newest[0], TaskState.FAILED)
    lab.settle()
    lab.report(lab.tasks(web)[-1], TaskState.FAILED)
    lab.settle()
    lab.play()
    assert state(lab, web) in ("updating", "paused")


def test_a_failure_after_the_watch_is_no_failure_of_the_update(lab: Lab) -> None:
    web = running(lab, 2, delay=5 * NANOSECONDS, monitor=NANOSECONDS)
    lab.update(web, **NEW)
    lab.play()
    first = lab.tasks(web)[-1]
    lab.pass_time(5)
    lab.play()
    lab.pass_time(2)
    lab.report(first, TaskState.FAILED)
    lab.settle()
    assert state(lab, web) == "updating"


def test_a_failure_rolls_back_to_the_spec_before(lab: Lab) -> None:
    web = running(lab, 3, failure_action="rollback")
    lab.update(web, **NEW)
    task_id = fail_new(lab, web)
    service = lab.get(web)
    assert service.update_status is not None
    assert service.update_status.state == "rollback_started"
    assert service.update_status.message == f"update rolled back due to failure or early termination of task {task_id}"
    assert service.previous_spec is None
    lab.play()
    lab.pass_time(10)
    assert images(lab, web) == ["v1"] * 3
    status = lab.get(web).update_status
    assert status is not None
    assert (status.state, status.message) == ("rollback_completed", "rollback completed")


def test_a_rollback_that_fails_is_paused_and_never_rolled_back(lab: Lab) -> None:
    web = running(lab, 3, failure_action="rollback", parallelism=2)
    lab.update(web, **NEW)
    fail_new(lab, web)
    back = next(task for task in lab.tasks(web) if task.slot == 1 and task.desired_state is TaskState.READY)
    assert back.spec.container_spec == ContainerSpec(image="v1")
    task_id = back.id
    lab.report(back, TaskState.FAILED)
    lab.settle()
    status = lab.get(web).update_status
    assert status is not None
    assert status.state == "rollback_paused"
    assert status.message == f"rollback paused due to failure or early termination of task {task_id}"


def test_a_new_leader_carries_an_update_on(lab: Lab) -> None:
    web = running(lab, 3)
    lab.update(web, **NEW)
    lab.settle()
    lab.elect()
    assert under_way(lab, web) == 1
    lab.play()
    assert images(lab, web) == ["v2"] * 3
    lab.elect()
    assert state(lab, web) == "updating", "still watched"
    lab.pass_time(2)
    assert state(lab, web) == "completed"


def test_a_new_update_overtakes_the_old_one(lab: Lab) -> None:
    web = running(lab, 3)
    lab.update(web, **NEW)
    lab.settle()
    lab.update(web, container_spec=ContainerSpec(image="v3"))
    lab.play()
    lab.pass_time(5)
    assert images(lab, web) == ["v3"] * 3
    assert state(lab, web) == "completed"


def test_scaling_is_no_update(lab: Lab) -> None:
    web = running(lab, 2)
    lab.scale(web, 4)
    lab.play()
    assert lab.get(web).update_status is None
    assert len(lab.tasks(web)) == 4


def test_what_does_not_run_is_updated_first(lab: Lab) -> None:
    web = running(lab, 3)
    broken = lab.tasks(web)[2]
    lab.report(broken, TaskState.FAILED)
    lab.settle()
    lab.update(web, **NEW)
    assert lab.tasks(web)[-1].slot == broken.slot
