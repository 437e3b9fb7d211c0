"""What a rolling update has to keep in mind: its rules, what is under way, what failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from enxame.control.board import SlotKey
from enxame.model.cluster import NANOSECONDS
from enxame.model.service import DEFAULT_MONITOR, Service, UpdateConfig
from enxame.model.task import Task, TaskState

#: States of a task that count as a failed update: it ended although nobody told it to.
EARLY_ENDS: Final = frozenset({TaskState.COMPLETE, TaskState.FAILED, TaskState.REJECTED})
UNDER_WAY: Final = frozenset({"updating", "rollback_started"})
PAUSED: Final = frozenset({"paused", "rollback_paused"})

_DEFAULT: Final = UpdateConfig(parallelism=1)


@dataclass(frozen=True, slots=True)
class Rules:
    """How tasks are replaced; times in seconds. ``parallelism`` 0 is all at once."""

    spec_version: int
    rolling_back: bool
    parallelism: int
    delay: float
    monitor: float
    start_first: bool
    failure_action: str
    max_failure_ratio: float


def rules_of(service: Service) -> Rules:
    """The rules that hold for a service now: those of its rollback while it rolls back."""
    status = service.update_status
    rolling_back = status is not None and status.state.startswith("rollback")
    config = (service.spec.rollback_config if rolling_back else service.spec.update_config) or _DEFAULT
    delay = config.delay / NANOSECONDS
    monitor = (config.monitor or DEFAULT_MONITOR) / NANOSECONDS
    return Rules(
        spec_version=service.internal.spec_version if service.internal is not None else 0,
        rolling_back=rolling_back,
        parallelism=config.parallelism,
        delay=delay,
        monitor=delay + 1 if delay >= monitor else monitor,
        start_first=config.order == "start-first",
        failure_action=config.failure_action or "pause",
        max_failure_ratio=config.max_failure_ratio,
    )


@dataclass(slots=True)
class Rollout:
    """One update of one service. Times are monotonic seconds."""

    rules: Rules
    #: Slots to be updated when it began: what the failure ratio is of.
    total: int = 0
    queue: dict[SlotKey, None] = field(default_factory=dict)
    #: Slots under way: the new task that is waited for.
    active: dict[SlotKey, str] = field(default_factory=dict)
    #: Until when places stay empty after a slot was done.
    cooling: list[float] = field(default_factory=list)
    #: The update's tasks: since when each runs, None before.
    tasks: dict[str, float | None] = field(default_factory=dict)
    failed: dict[str, None] = field(default_factory=dict)
    last_done: float | None = None

    def places(self, now: float) -> int:
        """How many slots may be begun."""
        if self.rules.parallelism == 0:
            return len(self.queue)
        self.cooling = [until for until in self.cooling if until > now]
        return self.rules.parallelism - len(self.active) - len(self.cooling)

    def done(self, key: SlotKey, now: float) -> None:
        """A slot's new task came up, or will not."""
        del self.active[key]
        self.last_done = now
        if self.rules.delay > 0 and self.queue:
            self.cooling.append(now + self.rules.delay)

    def finish_time(self) -> float:
        """When the last task has been watched for long enough."""
        times = [since for since in self.tasks.values() if since is not None]
        if self.last_done is not None:
            times.append(self.last_done)
        return max(times, default=float("-inf")) + self.rules.monitor

    def note(self, task: Task, now: float) -> bool:
        """See a changed task of this update. True when it is the failure that is one too many."""
        state = task.status.state
        since = self.tasks[task.id]
        if since is None and state >= TaskState.RUNNING:
            self.tasks[task.id] = now
        if state not in EARLY_ENDS or task.id in self.failed:
            return False
        if since is not None and now - since > self.rules.monitor:
            return False
        self.failed[task.id] = None
        too_many = len(self.failed) / max(1, self.total) > self.rules.max_failure_ratio
        return too_many and self.rules.failure_action != "continue"
