"""Jobs: tasks that are to complete, once for each slot or node and run of the job.

A replicated job fills its slots from 0, so many at a time; a global job runs once on every fitting node. A new run (the
job's iteration) removes what is left of the one before.
"""

from __future__ import annotations

from enxame.control.board import Board, SlotKey, is_wanted
from enxame.control.constraint import Constraint, matches
from enxame.control.global_ import constraints_of, leave_node
from enxame.control.restart import RestartSupervisor, node_is_gone
from enxame.model.base import ObjectVersion
from enxame.model.node import Node
from enxame.model.service import ReplicatedJob, Service
from enxame.model.task import Task, TaskState


def reconcile(board: Board, restarts: RestartSupervisor, service: Service) -> bool:
    """Remove earlier runs, and start what may be started of this one. False: the pass is full, some is left."""
    _remove_earlier_runs(board, service)
    job = service.spec.mode.replicated_job
    if job is not None:
        return _fill(board, restarts, service, job)
    constraints = constraints_of(service)
    for node in board.nodes():
        if board.full:
            return False
        reconcile_node(board, restarts, service, node, constraints)
    return True


def reconcile_node(
    board: Board, restarts: RestartSupervisor, service: Service, node: Node, constraints: tuple[Constraint, ...] | None
) -> None:
    """Run a global job on a node that has not had this run yet."""
    if node_is_gone(node) or constraints is None or not matches(constraints, node):
        leave_node(board, service, node.id)
    elif node.spec.availability != "pause" and node.status.state == "ready":
        slot = (service.id, node.id)
        if not any(_is_of_run(task, service) for task in restarts.updatable(board, slot, service)):
            restarts.add(board, slot, service)


def _fill(board: Board, restarts: RestartSupervisor, service: Service, job: ReplicatedJob) -> bool:
    at_once = 1 if job.max_concurrent is None else job.max_concurrent
    total = at_once if job.total_completions is None else job.total_completions
    taken: set[SlotKey] = set()
    running = 0
    for key in board.slots.get(service.id, {}):
        live = [t for t in restarts.updatable(board, (service.id, key), service) if _is_of_run(t, service)]
        if live:
            taken.add(key)
            running += any(is_wanted(task) and not task.status.state.is_terminal for task in live)
    free = (at_once or total) - running
    slot = 0
    while free > 0 and slot < total:
        if slot not in taken:
            if board.full:
                return False
            restarts.add(board, (service.id, slot), service)
            free -= 1
        slot += 1
    return True


def _remove_earlier_runs(board: Board, service: Service) -> None:
    for tasks in list(board.slots.get(service.id, {}).values()):
        for task in list(tasks.values()):
            if not _is_of_run(task, service) and task.desired_state is not TaskState.REMOVE:
                board.change(task, desired_state=TaskState.REMOVE)


def _is_of_run(task: Task, service: Service) -> bool:
    run = service.job_status.job_iteration if service.job_status is not None else ObjectVersion()
    return (task.job_iteration or ObjectVersion()) == run
