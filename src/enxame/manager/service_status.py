"""The counts that ``service ls`` shows."""

from __future__ import annotations

from enxame.model.node import Node
from enxame.model.service import Service, ServiceStatus
from enxame.model.task import Task, TaskState
from enxame.store.interface import View

__all__ = ["service_status"]


def service_status(view: View, service: Service) -> ServiceStatus:
    """Running, desired and (for jobs) completed tasks of a service.

    What a lost node's tasks do nobody knows: those that were replaced elsewhere do not count as running.
    """
    mode = service.spec.mode
    tasks = view.find(Task, "service_id", service.id)
    if service.job_status is not None:
        iteration = service.job_status.job_iteration
        tasks = [task for task in tasks if task.job_iteration == iteration]
    running = sum(task.status.state is TaskState.RUNNING and not _is_given_up(view, task) for task in tasks)
    completed = 0
    if service.job_status is not None:
        completed = sum(task.status.state is TaskState.COMPLETE for task in tasks)
    if mode.replicated is not None:
        desired = 1 if mode.replicated.replicas is None else mode.replicated.replicas
    elif mode.replicated_job is not None:
        desired = mode.replicated_job.max_concurrent or 0
    else:
        desired = sum(_is_desired(task) for task in tasks)
    return ServiceStatus(running_tasks=running, desired_tasks=desired, completed_tasks=completed)


def _is_given_up(view: View, task: Task) -> bool:
    if task.desired_state is TaskState.RUNNING:
        return False
    node = view.get(Node, task.node_id)
    return node is not None and node.status.state == "down"


def _is_desired(task: Task) -> bool:
    """Of a global service or job: the task stands for a node that is to have one."""
    if task.desired_state is TaskState.COMPLETE:
        return task.status.state is not TaskState.COMPLETE
    return task.desired_state is TaskState.RUNNING
