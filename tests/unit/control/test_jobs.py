from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from enxame.model.base import ObjectVersion
from enxame.model.node import NodeStatus
from enxame.model.service import (
    ContainerSpec,
    GlobalJob,
    JobStatus,
    Placement,
    ReplicatedJob,
    Service,
    ServiceInternal,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
)
from enxame.model.task import Task, TaskState
from tests.unit.control.lab import Lab, policy


def job(lab: Lab, mode: ServiceMode, **template: Any) -> Service:
    spec = ServiceSpec(
        name="job", mode=mode, task_template=TaskSpec(container_spec=ContainerSpec(image="v1"), **template)
    )
    service = Service(id="job-id", spec=spec, job_status=JobStatus(), internal=ServiceInternal(spec_version=1))
    lab.put(service)
    lab.step()
    return service


def replicated(at_once: int, total: int) -> ServiceMode:
    return ServiceMode(replicated_job=ReplicatedJob(max_concurrent=at_once, total_completions=total))


def finish(lab: Lab, task: Task, state: TaskState = TaskState.COMPLETE) -> None:
    lab.report(task, state)
    lab.settle()


def open_tasks(lab: Lab) -> list[Task]:
    return [task for task in lab.tasks() if not task.status.state.is_terminal]


def test_slots_are_filled_from_zero_so_many_at_a_time_until_all_have_completed(lab: Lab) -> None:
    lab.node("n1")
    job(lab, replicated(2, 5))
    assert [(task.slot, task.desired_state) for task in lab.tasks()] == [
        (0, TaskState.COMPLETE),
        (1, TaskState.COMPLETE),
    ]
    for done in range(1, 6):
        finish(lab, open_tasks(lab)[0])
        assert len(open_tasks(lab)) == min(2, 5 - done)
    assert sorted(task.slot for task in lab.tasks()) == [0, 1, 2, 3, 4]
    assert {task.status.state for task in lab.tasks()} == {TaskState.COMPLETE}
    before = lab.store.revision
    lab.elect()
    assert lab.store.revision == before


def test_a_failed_task_is_tried_again_in_its_slot(lab: Lab) -> None:
    lab.node("n1")
    job(lab, replicated(1, 2), restart_policy=policy("on-failure", delay=1))
    finish(lab, lab.tasks()[0], TaskState.FAILED)
    again = lab.tasks()[1]
    assert (again.slot, again.desired_state) == (0, TaskState.READY)
    lab.pass_time(1)
    assert lab.task(again).desired_state is TaskState.COMPLETE
    finish(lab, again)
    assert lab.tasks()[-1].slot == 1


def test_without_restart_a_failed_task_stays_failed(lab: Lab) -> None:
    lab.node("n1")
    job(lab, replicated(1, 1), restart_policy=policy("none"))
    finish(lab, lab.tasks()[0], TaskState.FAILED)
    assert len(lab.tasks()) == 1


def test_a_job_on_a_lost_node_runs_elsewhere(lab: Lab) -> None:
    node = lab.node("n1")
    job(lab, replicated(1, 1), restart_policy=policy("on-failure"))
    lab.node("n2")
    lab.change(node, status=NodeStatus(state="down"))
    lab.settle()
    assert (lab.tasks()[1].node_id, lab.tasks()[1].desired_state) == ("n2", TaskState.COMPLETE)


def test_a_new_run_removes_the_one_before(lab: Lab) -> None:
    lab.node("n1")
    service = job(lab, replicated(2, 2))
    finish(lab, lab.tasks()[0])
    old = lab.tasks()
    lab.change(
        lab.get(service),
        job_status=JobStatus(job_iteration=ObjectVersion(index=1)),
        internal=ServiceInternal(spec_version=2),
    )
    lab.play()
    assert not {task.id for task in lab.tasks()} & {task.id for task in old}
    assert [(task.slot, task.job_iteration) for task in lab.tasks()] == [
        (0, ObjectVersion(index=1)),
        (1, ObjectVersion(index=1)),
    ]


def test_a_global_job_runs_once_on_every_fitting_node(lab: Lab) -> None:
    lab.node("n1", labels={"zone": "a"})
    lab.node("n2", labels={"zone": "b"})
    job(lab, ServiceMode(global_job=GlobalJob()), placement=Placement(constraints=["node.labels.zone==a"]))
    assert [(task.node_id, task.desired_state) for task in lab.tasks()] == [("n1", TaskState.COMPLETE)]
    finish(lab, lab.tasks()[0])
    assert len(lab.tasks()) == 1
    late = lab.node("n3", labels={"zone": "a"})
    lab.settle()
    assert [task.node_id for task in open_tasks(lab)] == ["n3"]
    lab.change(late, spec=replace(late.spec, availability="drain"))
    lab.settle()
    assert lab.tasks()[-1].desired_state is TaskState.SHUTDOWN


def test_removing_a_job_forgets_its_tasks(lab: Lab) -> None:
    lab.node("n1")
    service = job(lab, replicated(2, 3))
    finish(lab, lab.tasks()[0])
    lab.delete(lab.get(service))
    lab.play()
    assert lab.tasks() == []
