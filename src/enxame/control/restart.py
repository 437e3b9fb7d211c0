"""Replaces tasks that ended or whose node is gone, as their restart policy says.

A replacement is made at once with desired state READY, so that it is placed and prepared while it waits: for the
restart delay, and for the task before it to stop (at most ``OLD_TASK_TIMEOUT`` past its grace period). Then it is
promoted to RUNNING. The waiting is kept in memory and derived anew from the tasks when leadership changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from enxame.control.board import Board, Slot, is_dead, is_wanted
from enxame.control.new_task import new_task
from enxame.model.cluster import NANOSECONDS
from enxame.model.node import Node
from enxame.model.service import DEFAULT_RESTART_DELAY, DEFAULT_STOP_GRACE, Service
from enxame.model.task import Task, TaskState

#: How long a stopping task may hold up its replacement beyond its own grace period: seconds.
OLD_TASK_TIMEOUT: Final = 60.0


@dataclass(slots=True)
class _Gate:
    """What a prepared task waits for. Times are monotonic seconds."""

    not_before: float
    give_up: float
    old: tuple[str, ...]


@dataclass(slots=True)
class _History:
    """Restarts of one slot under one version of its service's spec."""

    spec_version: int
    total: int = 0
    times: deque[float] = field(default_factory=deque)
    #: The slot's newest task when the policy let it rest: it stays so, however much time passes.
    resting: str = ""


def running_state(service: Service) -> TaskState:
    """What a task of the service is to reach: a job's ends by itself."""
    mode = service.spec.mode
    job = mode.replicated_job is not None or mode.global_job is not None
    return TaskState.COMPLETE if job else TaskState.RUNNING


def node_is_gone(node: Node | None) -> bool:
    """Tasks on it must run elsewhere."""
    return node is None or node.status.state == "down" or node.spec.availability == "drain"


class RestartSupervisor:
    """Holds the delays and the counts of restarts."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._gates: dict[str, _Gate] = {}
        self._history: dict[Slot, _History] = {}

    def start(self, board: Board) -> None:
        """Derive the delays and counts from the tasks."""
        self._gates.clear()
        self._history.clear()
        now = board.now
        for service_id, slots in board.slots.items():
            for key, tasks in slots.items():
                slot = (service_id, key)
                for task in tasks.values():
                    if task.desired_state is TaskState.READY:
                        age = max(0.0, (now.wall - task.created_at).total_seconds())
                        remaining = max(0.0, restart_delay(task) - age)
                        others = [other for other in tasks.values() if other.desired_state > TaskState.RUNNING]
                        # Without a dead task before it, it replaces a live one: no restart delay.
                        delay = remaining if any(is_dead(other) for other in others) else 0.0
                        self._gate(board, slot, task, others, delay)
                self._rebuild_history(board, slot, list(tasks.values()))

    def review(self, board: Board, slot: Slot, service: Service) -> None:
        """Restart what ended in a slot, promote what waited long enough."""
        for task in board.in_slot(slot):
            if not is_wanted(task):
                self._gates.pop(task.id, None)
            elif task.desired_state is TaskState.COMPLETE and task.status.state is TaskState.COMPLETE:
                continue
            elif task.status.state.is_terminal or (task.node_id and node_is_gone(board.node(task.node_id))):
                self._restart(board, slot, service, task)
            elif task.desired_state is TaskState.READY:
                self._promote(board, slot, service, task)

    def add(self, board: Board, slot: Slot, service: Service) -> Task:
        """A new task in a slot; it waits for what still stops there."""
        return self.replace(board, slot, service, board.in_slot(slot), delay=0.0)

    def replace(self, board: Board, slot: Slot, service: Service, old: Iterable[Task], *, delay: float) -> Task:
        """A new task that starts after ``delay`` seconds and once the ``old`` ones have stopped."""
        waits_for = [task for task in old if not self._has_stopped(board, task.id)]
        immediate = delay <= 0 and not waits_for
        desired = running_state(service) if immediate else TaskState.READY
        task = board.create(new_task(board, self._new_id(), service, slot[1], desired))
        if not immediate:
            self._gate(board, slot, task, waits_for, delay)
        return task

    def hold(self, board: Board, slot: Slot, task: Task, old: Iterable[Task]) -> None:
        """Let a task that exists (desired READY) start once the ``old`` ones have stopped."""
        self._gate(board, slot, task, [other for other in old if not self._has_stopped(board, other.id)], 0.0)

    def updatable(self, board: Board, slot: Slot, service: Service) -> list[Task]:
        """The tasks that stand for the slot: those meant to run; else the newest, if its policy lets it rest. None of
        them: the slot is dead.
        """
        tasks = board.in_slot(slot)
        wanted = [task for task in tasks if is_wanted(task)]
        if wanted or not tasks:
            return wanted
        status = service.update_status
        if status is not None and status.state == "rollback_started":
            return []
        if isinstance(slot[1], str) and board.node(slot[1]) is None:
            return []
        newest = tasks[-1]
        # Removed ones (scaled down) free the slot; the policy has no say there.
        if newest.desired_state is TaskState.REMOVE or self._should_restart(board, slot, newest):
            return []
        return [newest]

    def forget(self, service_id: str) -> None:
        """Drop the counts of a deleted service."""
        for slot in [slot for slot in self._history if slot[0] == service_id]:
            del self._history[slot]

    def forget_task(self, task_id: str) -> None:
        """Drop what a deleted task waited for."""
        self._gates.pop(task_id, None)

    # Inside

    def _restart(self, board: Board, slot: Slot, service: Service, task: Task) -> None:
        gate = self._gates.get(task.id)
        if gate is not None and board.now.mono < gate.not_before:
            # It failed while it waited for its own delay: not earlier than that, or a bad image would spin.
            board.wake_at(gate.not_before, ("slot", *slot))
            return
        self._gates.pop(task.id, None)
        restart = self._should_restart(board, slot, task)
        node = board.node(task.node_id) if task.node_id else None
        ended = task.status.state.is_terminal
        old = board.change(task, desired_state=TaskState.SHUTDOWN)
        if not restart:
            history = self._history.get(slot)
            if history is not None:
                history.resting = board.in_slot(slot)[-1].id
            return
        if isinstance(slot[1], str) and node_is_gone(node):
            return
        # Neither a drained, a lost nor a removed node is the task's fault.
        delay = restart_delay(task) if ended and task.status.state is not TaskState.ORPHANED else 0.0
        others = [other for other in board.in_slot(slot) if not is_wanted(other)]
        self._record(board, slot, old)
        if any(_competes(other, old) for other in board.in_slot(slot)):
            return
        self.replace(board, slot, service, others, delay=delay)

    def _promote(self, board: Board, slot: Slot, service: Service, task: Task) -> None:
        gate = self._gates.get(task.id)
        if gate is not None:
            if board.now.mono < gate.not_before:
                board.wake_at(gate.not_before, ("slot", *slot))
                return
            if board.now.mono < gate.give_up and not all(self._has_stopped(board, old) for old in gate.old):
                board.wake_at(gate.give_up, ("slot", *slot))
                return
            del self._gates[task.id]
        board.change(task, desired_state=running_state(service))

    def _gate(self, board: Board, slot: Slot, task: Task, old: list[Task], delay: float) -> None:
        now = board.now.mono
        grace = max((stop_grace(other) for other in old), default=0.0)
        gate = _Gate(now + delay, now + delay + grace + OLD_TASK_TIMEOUT, tuple(other.id for other in old))
        self._gates[task.id] = gate
        board.wake_at(gate.not_before if delay > 0 else gate.give_up, ("slot", *slot))

    def _has_stopped(self, board: Board, task_id: str) -> bool:
        task = board.tasks.get(task_id)
        if task is None or is_dead(task) or task.status.state < TaskState.ASSIGNED:
            return True
        node = board.node(task.node_id)
        return node is None or node.status.state == "down"

    def _should_restart(self, board: Board, slot: Slot, task: Task) -> bool:
        policy = task.spec.restart_policy
        condition = policy.condition if policy is not None and policy.condition else "any"
        if task.job_iteration is not None and condition == "any":
            condition = "on-failure"
        if condition == "none" or (condition == "on-failure" and task.status.state is TaskState.COMPLETE):
            return False
        if policy is None or not policy.max_attempts:
            return True
        history = self._history.get(slot)
        if history is None or history.spec_version != spec_version(task):
            return True
        if not policy.window:
            return history.total < policy.max_attempts
        if task.id == history.resting:
            return False
        since = board.now.mono - policy.window / NANOSECONDS
        while history.times and history.times[0] <= since:
            history.times.popleft()
        return len(history.times) < policy.max_attempts

    def _record(self, board: Board, slot: Slot, task: Task) -> None:
        policy = task.spec.restart_policy
        if policy is None or not policy.max_attempts:
            return
        version = spec_version(task)
        history = self._history.get(slot)
        if history is None or history.spec_version != version:
            history = self._history[slot] = _History(version)
        history.total += 1
        history.times.append(board.now.mono)

    def _rebuild_history(self, board: Board, slot: Slot, tasks: list[Task]) -> None:
        newest = tasks[-1]
        policy = newest.spec.restart_policy
        if policy is None or not policy.max_attempts:
            return
        history = _History(spec_version(newest))
        for task in tasks[1:]:
            if spec_version(task) == history.spec_version:
                history.total += 1
                history.times.append(_mono_of(board, task.created_at))
        if not history.total:
            return
        self._history[slot] = history
        if newest.desired_state is TaskState.SHUTDOWN and newest.status.state.is_terminal and policy.window:
            if isinstance(slot[1], int):
                # Who decided otherwise made its successor in the same commit.
                given_up = history.total >= policy.max_attempts
            else:
                # Its node may have been away.
                since = _mono_of(board, newest.status.timestamp) - policy.window / NANOSECONDS
                given_up = sum(when > since for when in history.times) >= policy.max_attempts
            history.resting = newest.id if given_up else ""


def _mono_of(board: Board, moment: datetime) -> float:
    """About when people's clock showed that moment; not in the future."""
    return board.now.mono - max(0.0, (board.now.wall - moment).total_seconds())


def _competes(other: Task, task: Task) -> bool:
    same = other.id != task.id and spec_version(other) == spec_version(task)
    return same and is_wanted(other)


def spec_version(task: Task) -> int:
    """The version of the service's spec that a task was made from."""
    return task.internal.spec_version if task.internal is not None else 0


def restart_delay(task: Task) -> float:
    """Seconds between a task's end and its replacement's start."""
    policy = task.spec.restart_policy
    delay = policy.delay if policy is not None else None
    return (DEFAULT_RESTART_DELAY if delay is None else delay) / NANOSECONDS


def stop_grace(task: Task) -> float:
    """Seconds a task may take to stop before it is killed."""
    container = task.spec.container_spec
    grace = container.stop_grace_period if container is not None else None
    return (DEFAULT_STOP_GRACE if grace is None else grace) / NANOSECONDS
