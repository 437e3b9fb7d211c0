"""Keeps a replicated service at its number of tasks: fills slots from 1, lowest free first; scales down evenly."""

from __future__ import annotations

from collections import Counter
from typing import Final

from enxame.control.board import Board, SlotKey
from enxame.control.restart import RestartSupervisor
from enxame.model.service import Service
from enxame.model.task import Task, TaskState

#: Tasks of a service that one pass makes or removes; the next pass, which is at once, goes on. Thousands in one would
#: keep everything else that the manager does waiting. Swarm's number (``MaxChangesPerTransaction``).
MOST_AT_ONCE: Final = 200


def replicas(service: Service) -> int:
    """How many tasks a replicated service is to have."""
    mode = service.spec.mode.replicated
    wanted = mode.replicas if mode is not None else None
    return 1 if wanted is None else wanted


def reconcile(board: Board, restarts: RestartSupervisor, service: Service) -> None:
    """Compare the service's slots with its replicas and create or remove the difference."""
    live: dict[SlotKey, list[Task]] = {}
    dead: list[SlotKey] = []
    for key in board.slots.get(service.id, {}):
        tasks = restarts.updatable(board, (service.id, key), service)
        if tasks:
            live[key] = tasks
        else:
            dead.append(key)
    wanted = replicas(service)
    kept = live
    if wanted > len(live):
        kept = dict(live)
        missing = wanted - len(live)
        slot = 0
        for number in range(missing):
            slot += 1
            while slot in kept:
                slot += 1
            kept[slot] = [restarts.add(board, (service.id, slot), service)] if number < MOST_AT_ONCE else []
        _go_on(board, service.id, missing)
    elif wanted < len(live):
        ranked = _keep_first(live)
        kept = {key: live[key] for key in ranked[:wanted]}
        for key in ranked[wanted:][:MOST_AT_ONCE]:
            remove_slot(board, service.id, key)
        _go_on(board, service.id, len(ranked) - wanted)
    for key in dead:
        if key not in kept:
            remove_slot(board, service.id, key)


def remove_all(board: Board, service_id: str) -> None:
    """Stop and delete all tasks of a service that is gone."""
    left = [
        key
        for key, tasks in board.slots.get(service_id, {}).items()
        if any(task.desired_state is not TaskState.REMOVE for task in tasks.values())
    ]
    for key in left[:MOST_AT_ONCE]:
        remove_slot(board, service_id, key)
    _go_on(board, service_id, len(left))


def remove_slot(board: Board, service_id: str, key: SlotKey) -> None:
    """Stop and delete all tasks of a slot."""
    for task in board.in_slot((service_id, key)):
        if task.desired_state is not TaskState.REMOVE:
            board.change(task, desired_state=TaskState.REMOVE)


def _go_on(board: Board, service_id: str, count: int) -> None:
    if count > MOST_AT_ONCE:
        board.wake_at(board.now.mono, ("service", service_id, ""))


def _keep_first(slots: dict[SlotKey, list[Task]]) -> list[SlotKey]:
    """The slots in the order of their worth: the last ones go first. Running ones before others, then so that the
    nodes with most copies lose first.
    """
    running_first = sorted(
        slots,
        key=lambda key: (not any(task.status.state is TaskState.RUNNING for task in slots[key]), str(key).zfill(9)),
    )
    copies: Counter[str] = Counter()
    nth: dict[SlotKey, float] = {}
    for key in running_first:
        tasks = slots[key]
        if len(tasks) == 1 and tasks[0].node_id:
            copies[tasks[0].node_id] += 1
            nth[key] = copies[tasks[0].node_id]
        else:
            nth[key] = float("inf")
    return sorted(running_first, key=nth.__getitem__)
