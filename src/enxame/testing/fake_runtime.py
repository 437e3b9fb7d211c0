"""A node without containers: carries tasks out by the agent's table on virtual time.

What a task does is said by its image: ``ok`` runs, ``slow`` takes long to come up, ``missing`` turns out after a while
not to be there, ``crash`` fails soon after its start, ``exits`` ends with success soon after it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from enxame.agent.task_machine import Operation, Transition, failed, is_to_stop, plan, succeeded
from enxame.model.dispatch import Assignments
from enxame.model.task import Task, TaskState, TaskStatus
from enxame.testing.clock import Process, Timer


@dataclass(slots=True)
class LocalTask:
    """A task as its node has it. ``runs``: its container is up."""

    task: Task
    state: TaskState
    desired: TaskState
    operation: Operation = Operation.NOTHING
    timer: Timer | None = None
    runs: bool = False
    status: TaskStatus | None = None

    @property
    def image(self) -> str:
        """What decides how it behaves."""
        container = self.task.spec.container_spec
        return container.image if container is not None else ""


class FakeNode:
    """One node: its tasks, and how it tells of them. ``report`` gets every status, ``moved`` every start and stop of a
    container.
    """

    def __init__(
        self,
        node_id: str,
        clock: Process,
        rng: random.Random,
        report: Callable[[str, TaskStatus], None],
        moved: Callable[[LocalTask], None],
    ) -> None:
        self.node_id = node_id
        self.tasks: dict[str, LocalTask] = {}
        self._clock = clock
        self._rng = rng
        self._report = report
        self._moved = moved

    def assign(self, message: Assignments) -> None:
        """Take a manager's word on what to have."""
        if message.complete:
            wanted = {task.id for task in message.tasks}
            for task_id in [task_id for task_id in self.tasks if task_id not in wanted]:
                self._remove(task_id)
        for task_id in message.removed_tasks:
            self._remove(task_id)
        for task in message.tasks:
            local = self.tasks.get(task.id)
            if local is None:
                self._accept(task)
            elif task.desired_state > local.desired:
                local.desired = task.desired_state
                self._drive(local)

    def crash(self) -> None:
        """The machine dies: no container survives, nobody is told."""
        for local in self.tasks.values():
            self._break_off(local)
            self._set_runs(local, runs=False)
        self.tasks.clear()

    def die(self) -> None:
        """The daemon dies; containers go on without it."""
        for local in self.tasks.values():
            self._break_off(local)

    def revive(self) -> None:
        """A new daemon finds the tasks in its database, and their containers, and goes on with them."""
        for local in list(self.tasks.values()):
            self._drive(local)

    def report_all(self) -> None:
        """Tell what is known of every task: a session begins."""
        for local in self.tasks.values():
            if local.status is not None:
                self._report(local.task.id, local.status)

    def kill(self, task_id: str) -> None:
        """A container dies behind everybody's back."""
        local = self.tasks.get(task_id)
        if local is not None and local.runs and local.operation is Operation.WAIT:
            self._break_off(local)
            self._fail(local, "task: non-zero exit (137)")

    # Inside

    def _accept(self, task: Task) -> None:
        local = self.tasks[task.id] = LocalTask(task, task.status.state, task.desired_state)
        if local.state >= TaskState.STARTING and not local.state.is_terminal:
            self._fail(local, "the task's container is gone")
        else:
            self._drive(local)

    def _remove(self, task_id: str) -> None:
        local = self.tasks.pop(task_id, None)
        if local is not None:
            self._break_off(local)
            self._set_runs(local, runs=False)

    def _drive(self, local: LocalTask) -> None:
        """Do what the table says, breaking off what is under way if the task is to stop."""
        if local.operation is not Operation.NOTHING:
            if not is_to_stop(local.desired) or local.operation is Operation.SHUTDOWN:
                return
            self._break_off(local)
        step = plan(local.state, local.desired)
        for transition in step.reports:
            self._advance(local, transition)
        if step.operation is not Operation.NOTHING:
            local.operation = step.operation
            if step.operation is Operation.START:
                self._set_runs(local, runs=True)
            duration = self._duration(local)
            if duration is not None:
                local.timer = self._clock.call_later(duration, lambda: self._done(local))

    def _done(self, local: LocalTask) -> None:
        operation, local.operation, local.timer = local.operation, Operation.NOTHING, None
        image = local.image
        if operation is Operation.PREPARE and image == "missing":
            self._fail(local, "No such image: missing")
            return
        if operation is Operation.WAIT and image == "crash":
            self._fail(local, "task: non-zero exit (1)")
            return
        if operation in (Operation.WAIT, Operation.SHUTDOWN):
            self._set_runs(local, runs=False)
        self._advance(local, succeeded(operation))
        self._drive(local)

    def _duration(self, local: LocalTask) -> float | None:
        """Seconds that the operation under way takes; None: for ever."""
        draw, image = self._rng.random(), local.image
        if local.operation is Operation.PREPARE:
            return 0.02 + draw * {"slow": 20.0, "missing": 4.0}.get(image, 0.3)
        if local.operation is Operation.START:
            return 0.02 + draw * (5.0 if image == "slow" else 0.1)
        if local.operation is Operation.SHUTDOWN:
            container = local.task.spec.container_spec
            grace = container.stop_grace_period if container is not None else None
            longest = (grace if grace is not None else 10_000_000_000) / 1e9
            return 0.01 + (draw * longest if draw > 0.7 else draw * 0.1)
        if image in ("crash", "exits"):
            return 0.05 + draw * 4
        return None

    def _fail(self, local: LocalTask, err: str) -> None:
        self._set_runs(local, runs=False)
        local.state = failed(local.state)
        self._tell(local, "", err)

    def _advance(self, local: LocalTask, transition: Transition) -> None:
        local.state = transition.state
        self._tell(local, transition.message, "")

    def _tell(self, local: LocalTask, message: str, err: str) -> None:
        status = TaskStatus(timestamp=self._clock.wall(), state=local.state, message=message, err=err)
        local.status = status
        self._report(local.task.id, status)

    def _break_off(self, local: LocalTask) -> None:
        if local.timer is not None:
            local.timer.cancel()
        local.timer, local.operation = None, Operation.NOTHING

    def _set_runs(self, local: LocalTask, *, runs: bool) -> None:
        if local.runs is not runs:
            local.runs = runs
            self._moved(local)
