"""Keeps a replicated service at its number of tasks: fills slots from 1, lowest free first; scales down evenly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from itertools import count, islice

from enxame.control.board import Board, SlotKey
from enxame.control.restart import RestartSupervisor
from enxame.model.service import Service
from enxame.model.task import Task, TaskState


def replicas(service: Service) -> int:
    """How many tasks a replicated service is to have."""
    mode = service.spec.mode.replicated
    wanted = mode.replicas if mode is not None else None
    return 1 if wanted is None else wanted


def reconcile(board: Board, restarts: RestartSupervisor, service: Service) -> bool:
    """Compare the service's slots with its replicas and create or remove the difference. False: the pass is full and
    some of it is left.
    """
    live: dict[SlotKey, list[Task]] = {}
    dead: list[SlotKey] = []
    for key in board.slots.get(service.id, {}):
        tasks = restarts.updatable(board, (service.id, key), service)
        if tasks:
            live[key] = tasks
        else:
            dead.append(key)
    wanted = replicas(service)
    fresh: dict[SlotKey, None] = {}
    surplus: list[SlotKey] = []
    if wanted > len(live):
        fresh = dict.fromkeys(_lowest_free(live, wanted - len(live)))
        for key in fresh:
            if board.full:
                return False
            restarts.add(board, (service.id, key), service)
    elif wanted < len(live):
        surplus = _keep_first(live)[wanted:]
    return _remove_slots(board, service.id, surplus + [key for key in dead if key not in fresh])


def remove_all(board: Board, service_id: str) -> bool:
    """Stop and delete all tasks of a service that is gone. False: the pass is full and some are left."""
    return _remove_slots(board, service_id, list(board.slots.get(service_id, {})))


def remove_slot(board: Board, service_id: str, key: SlotKey) -> None:
    """Stop and delete all tasks of a slot."""
    for task in board.in_slot((service_id, key)):
        if task.desired_state is not TaskState.REMOVE:
            board.change(task, desired_state=TaskState.REMOVE)


def _remove_slots(board: Board, service_id: str, keys: list[SlotKey]) -> bool:
    for key in keys:
        if board.full:
            return False
        remove_slot(board, service_id, key)
    return True


def _lowest_free(taken: Container[SlotKey], number: int) -> list[SlotKey]:
    return list(islice((slot for slot in count(1) if slot not in taken), number))


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
