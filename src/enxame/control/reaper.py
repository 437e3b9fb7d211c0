"""Deletes tasks that are history: removed ones once they have stopped, and the oldest dead ones of each slot."""

from __future__ import annotations

from enxame.control.board import Board, Slot, is_dead, is_wanted
from enxame.control.restart import RestartSupervisor
from enxame.model.cluster import DEFAULT_TASK_HISTORY
from enxame.model.task import Task, TaskState


def reap(board: Board, restarts: RestartSupervisor) -> None:
    """Look at every slot that this pass touched."""
    cluster = board.cluster()
    limit = cluster.spec.orchestration.task_history_retention_limit if cluster is not None else None
    if limit is None:
        limit = DEFAULT_TASK_HISTORY
    for slot in list(board.touched):
        _reap_slot(board, restarts, slot, limit)


def _reap_slot(board: Board, restarts: RestartSupervisor, slot: Slot, limit: int) -> None:
    tasks = board.in_slot(slot)
    kept: list[Task] = []
    for task in tasks:
        if task.desired_state is TaskState.REMOVE and is_dead(task):
            _delete(board, restarts, task)
        else:
            kept.append(task)
    if limit < 0 or not kept:
        return
    policy = kept[-1].spec.restart_policy
    attempts = policy.max_attempts if policy is not None else None
    if attempts and limit <= attempts:
        # The count of restarts is derived from the tasks that are left.
        limit = attempts + 1
    excess = len(kept) - limit
    service = board.service(slot[0])
    for task in kept:
        if excess <= 0:
            break
        # Without history (limit 0) the newest one still says that the slot is done.
        resting = task is kept[-1] and service is not None and bool(restarts.updatable(board, slot, service))
        if is_dead(task) and not is_wanted(task) and not resting:
            _delete(board, restarts, task)
            excess -= 1


def _delete(board: Board, restarts: RestartSupervisor, task: Task) -> None:
    restarts.forget_task(task.id)
    board.delete(task)
