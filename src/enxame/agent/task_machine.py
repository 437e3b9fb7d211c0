"""A task's life on its node, as a pure table: what to do next for a state and a desired state, and what comes of it.

    ASSIGNED → ACCEPTED → PREPARING ─prepare→ READY → STARTING ─start→ RUNNING ─wait→ COMPLETE
                              └──────→ REJECTED          └────────────────┴───────→ FAILED
    any of them, when it is to stop: ─shutdown→ SHUTDOWN

States only grow. A task waits in READY until it is meant to run; nothing else waits for the manager.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from enxame.model.task import TaskState


class Operation(Enum):
    """What the task's controller is to do."""

    NOTHING = "nothing"
    PREPARE = "prepare"
    START = "start"
    WAIT = "wait"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class Transition:
    """A state to report, with Swarm's word for it."""

    state: TaskState
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """States to report now, in order, and then the operation to carry out."""

    reports: tuple[Transition, ...]
    operation: Operation


ACCEPTED = Transition(TaskState.ACCEPTED, "accepted")
PREPARING = Transition(TaskState.PREPARING, "preparing")
PREPARED = Transition(TaskState.READY, "prepared")
STARTING = Transition(TaskState.STARTING, "starting")
STARTED = Transition(TaskState.RUNNING, "started")
FINISHED = Transition(TaskState.COMPLETE, "finished")
STOPPED = Transition(TaskState.SHUTDOWN, "shutdown")

_REST = Plan((), Operation.NOTHING)
_STOP = Plan((), Operation.SHUTDOWN)

_PLANS: dict[TaskState, Plan] = {
    TaskState.NEW: Plan((ACCEPTED, PREPARING), Operation.PREPARE),
    TaskState.PENDING: Plan((ACCEPTED, PREPARING), Operation.PREPARE),
    TaskState.ASSIGNED: Plan((ACCEPTED, PREPARING), Operation.PREPARE),
    TaskState.ACCEPTED: Plan((PREPARING,), Operation.PREPARE),
    TaskState.PREPARING: Plan((), Operation.PREPARE),
    TaskState.READY: Plan((STARTING,), Operation.START),
    TaskState.STARTING: Plan((), Operation.START),
    TaskState.RUNNING: Plan((), Operation.WAIT),
}

_DONE: dict[Operation, Transition] = {
    Operation.PREPARE: PREPARED,
    Operation.START: STARTED,
    Operation.WAIT: FINISHED,
    Operation.SHUTDOWN: STOPPED,
}


def is_to_stop(desired: TaskState) -> bool:
    """The manager wants the task ended."""
    return desired >= TaskState.SHUTDOWN


def plan(state: TaskState, desired: TaskState) -> Plan:
    """What to report and do next. To be asked again after each operation and each change of ``desired``; an operation
    under way is to be broken off when :func:`is_to_stop` becomes true.
    """
    if state.is_terminal:
        return _REST
    if is_to_stop(desired):
        return _STOP
    if state is TaskState.READY and desired < TaskState.RUNNING:
        return _REST
    return _PLANS[state]


def succeeded(operation: Operation) -> Transition:
    """What to report when an operation was carried out."""
    return _DONE[operation]


def failed(state: TaskState) -> TaskState:
    """The state to report, with the error, when an operation failed: rejected before the start, failed after it."""
    return TaskState.REJECTED if state < TaskState.STARTING else TaskState.FAILED
