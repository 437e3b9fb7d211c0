"""Waits until a service has converged, showing its tasks' states: bars on a terminal, lines on a pipe."""

import time
from typing import Any, Final, Protocol

from enxame.cli.client import quoted
from enxame.cli.errors import CliError
from enxame.cli.options.fields import encode_filters
from enxame.cli.options.numbers import SECOND
from enxame.cli.progressbar import Progress, display
from enxame.cli.session import Session

Json = dict[str, Any]

#: Order of the states on a task's way; what comes after "running" is the end.
STATES: Final = {
    "new": 1,
    "allocated": 2,
    "pending": 3,
    "assigned": 4,
    "accepted": 5,
    "preparing": 6,
    "ready": 7,
    "starting": 8,
    "running": 9,
    "complete": 10,
    "shutdown": 11,
    "failed": 12,
    "rejected": 13,
}
_RUNNING: Final = 9
_LONGEST: Final = 9
_MAX_BARS: Final = 20
#: Seconds between two looks: quick at first, so that the command ends as soon as the service has converged.
_FIRST_POLL: Final = 0.02
_POLL: Final = 0.2


def wait_for_service(cli: Session, service: str, *, quiet: bool = False) -> None:
    """Returns when the service has converged (and stayed so for its monitoring period). Raises CliError."""
    shown = display(cli, quiet=quiet)
    try:
        _watch(cli, service, shown)
    except KeyboardInterrupt:
        shown.message("", "Operation continuing in background.")
        shown.message("", f"Use `enxame service ps {service}` to check progress.")
    finally:
        shown.close()


def _watch(cli: Session, service: str, shown: Progress) -> None:
    monitor = 5.0
    converged_at: float | None = None
    converged = rolling_back = False
    closing = ""
    updater: Updater | None = None
    pause = _FIRST_POLL
    while True:
        found = cli.client.get(f"/services/{quoted(service)}", {"insertDefaults": "false"})
        monitor = ((found["Spec"].get("UpdateConfig") or {}).get("Monitor") or monitor * SECOND) / SECOND
        updater = updater or _updater(found, shown)
        status = found.get("UpdateStatus") or {}
        message = status.get("Message", "")
        match status.get("State"):
            case "updating":
                rolling_back = False
            case "completed" if not converged:
                return
            case "paused":
                raise CliError(f"service update paused: {message}")
            case "rollback_started":
                if not rolling_back and message:
                    shown.update("rollback", message)
                rolling_back = True
            case "rollback_paused":
                raise CliError(f"service rollback paused: {message}")
            case "rollback_completed":
                closing = "" if converged else message
                rolling_back = True
        if converged and converged_at is not None and time.monotonic() - converged_at >= monitor:
            shown.update("verify", f"Service {service} converged")
            if closing:
                shown.message("rollback", closing)
            return
        tasks = cli.client.get(
            "/tasks", {"filters": encode_filters([("service", found["ID"]), ("_up-to-date", "true")])}
        )
        nodes = {n["ID"] for n in cli.client.get("/nodes") if n.get("Status", {}).get("State") != "down"}
        converged = updater.update(found, tasks or [], nodes, rolling_back=rolling_back)
        if converged:
            if found.get("JobStatus") is not None:
                shown.message("", "job complete")
                return
            converged_at = converged_at or time.monotonic()
            left = monitor - (time.monotonic() - converged_at)
            if left >= 0:
                shown.update("verify", f"Waiting {int(left) + 1} seconds to verify that tasks are stable...")
            pause = min(_POLL, max(left, 0.0) or _FIRST_POLL)
        else:
            if converged_at is not None:
                shown.update("verify", "Detected task failure")
            converged_at = None
            pause = min(pause * 1.5, _POLL)
        time.sleep(pause)


class Updater(Protocol):
    """Shows one look at a service's tasks; True when all is as it should be."""

    def update(self, service: Json, tasks: list[Json], nodes: set[str], *, rolling_back: bool) -> bool:
        """Shows; True when converged."""
        ...


def _updater(service: Json, shown: Progress) -> Updater:
    mode = service["Spec"]["Mode"]
    if "Replicated" in mode:
        return _Replicated(shown)
    if "Global" in mode:
        return _Global(shown)
    if "ReplicatedJob" in mode:
        return _ReplicatedJob(shown, service)
    if "GlobalJob" in mode:
        return _GlobalJob(shown)
    raise CliError("unrecognized service mode")


def _number(state: str) -> int:
    return STATES.get(state, 0)


def _state(task: Json) -> str:
    return str(task.get("Status", {}).get("State", ""))


def _ending(state: str) -> bool:
    return _number(state) > _RUNNING


def _short(problem: str) -> str:
    text = problem.replace("\n", " ")
    return text if len(text) <= 75 else text[:74] + "…"


def _overall(shown: Progress, done: int, wanted: int, *, rolling_back: bool) -> None:
    prefix = "rolling back update: " if rolling_back else ""
    shown.update("overall progress", f"{prefix}{done} out of {wanted} tasks")


def _show_task(shown: Progress, name: str, task: Json) -> None:
    problem = task.get("Status", {}).get("Err", "")
    if problem:
        shown.update(name, _short(problem))
    elif not _ending(task.get("DesiredState", "")) and not _ending(_state(task)):
        shown.update(name, _state(task).ljust(_LONGEST), _number(_state(task)), _RUNNING)


def _current(tasks: list[Json], key: str, nodes: set[str] | None) -> dict[Any, Json]:
    """One task for each slot (or node): of several the one with the lowest desired, then observed state."""
    found: dict[Any, Json] = {}
    for task in tasks:
        rank = (_number(task.get("DesiredState", "")), _number(_state(task)))
        if 0 in rank:
            continue
        place = task.get(key) or 0
        other = found.get(place)
        if other is not None and (_number(other.get("DesiredState", "")), _number(_state(other))) <= rank:
            continue
        if nodes is not None and task.get("NodeID") and task["NodeID"] not in nodes:
            continue
        found[place] = task
    return found


class _Replicated:
    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._lines: dict[int, int] = {}
        self._started = self._done = False

    def update(self, service: Json, tasks: list[Json], nodes: set[str], *, rolling_back: bool) -> bool:
        wanted = (service["Spec"]["Mode"]["Replicated"] or {}).get("Replicas")
        if wanted is None:
            raise CliError("no replica count")
        if not self._started:
            self._started = True
            _overall(self._shown, 0, wanted, rolling_back=rolling_back)
            if wanted <= _MAX_BARS:
                for line in range(1, wanted + 1):
                    self._shown.update(f"{line}/{wanted}", " ")
        current = _current(tasks, "Slot", nodes)
        if self._done and any(_state(task) != "running" for task in current.values()):
            self._done = False
        running = 0
        for slot, task in sorted(current.items()):
            line = self._lines.setdefault(slot, len(self._lines) + 1)
            running += not _ending(task.get("DesiredState", "")) and _state(task) == "running"
            if not self._done and wanted <= _MAX_BARS and line <= wanted:
                _show_task(self._shown, f"{line}/{wanted}", task)
        if not self._done:
            _overall(self._shown, running, wanted, rolling_back=rolling_back)
            self._done = running == wanted
        return bool(running == wanted)


class _Global:
    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._started = self._done = False

    def update(self, service: Json, tasks: list[Json], nodes: set[str], *, rolling_back: bool) -> bool:  # noqa: ARG002
        current = _current(tasks, "NodeID", None)
        wanted = len(current)
        if not self._started:
            if not wanted:
                self._shown.update("overall progress", "waiting for new tasks")
                return False
            self._started = True
            _overall(self._shown, 0, wanted, rolling_back=rolling_back)
        if self._done and any(_state(task) != "running" for task in current.values()):
            self._done = False
        running = 0
        for node, task in sorted(current.items(), key=lambda item: str(item[0])):
            if node not in nodes:
                continue
            running += not _ending(task.get("DesiredState", "")) and _state(task) == "running"
            if not self._done and wanted <= _MAX_BARS:
                _show_task(self._shown, str(node)[:12], task)
        if not self._done:
            _overall(self._shown, running, wanted, rolling_back=rolling_back)
            self._done = running == wanted
        return running == wanted


def _job_tasks(service: Json, tasks: list[Json], key: str) -> dict[Any, Json]:
    """The least advanced task of each slot (or node) in the job's present iteration."""
    iteration = ((service.get("JobStatus") or {}).get("JobIteration") or {}).get("Index", 0)
    found: dict[Any, Json] = {}
    for task in tasks:
        if (task.get("JobIteration") or {}).get("Index") != iteration or not _number(_state(task)):
            continue
        place = task.get(key) or 0
        if place not in found or _number(_state(found[place])) > _number(_state(task)):
            found[place] = task
    return found


def _show_job_task(shown: Progress, name: str, task: Json) -> None:
    problem = task.get("Status", {}).get("Err", "")
    if problem:
        shown.update(name, _short(problem))
    else:
        shown.update(name, _state(task).ljust(_LONGEST), _number(_state(task)), 10)


class _ReplicatedJob:
    def __init__(self, shown: Progress, service: Json) -> None:
        mode = service["Spec"]["Mode"]["ReplicatedJob"]
        self._shown = shown
        self._total = int(mode.get("TotalCompletions") or 1)
        self._concurrent = int(mode.get("MaxConcurrent") or 1)
        self._started = False

    def _overall(self, active: int, complete: int) -> None:
        digits = len(str(self._total))
        self._shown.update("job progress", f"{complete:{digits}d} out of {self._total} complete", complete, self._total)
        wanted, digits = min(self._total - complete, self._concurrent), len(str(self._concurrent))
        self._shown.update("active tasks", f"{active:{digits}d} out of {wanted:{digits}d} tasks")

    def update(self, service: Json, tasks: list[Json], nodes: set[str], *, rolling_back: bool) -> bool:  # noqa: ARG002
        if not self._started:
            self._started = True
            self._overall(0, 0)
            if self._total <= _MAX_BARS:
                for line in range(1, self._total + 1):
                    self._shown.update(f"{line}/{self._total}", " ")
        current = _job_tasks(service, tasks, "Slot")
        if self._total <= _MAX_BARS:
            for slot, task in sorted(current.items()):
                _show_job_task(self._shown, f"{slot + 1}/{self._total}", task)
        complete = sum(_state(t) == "complete" for t in current.values())
        active = sum(_number(_state(t)) < STATES["complete"] for t in current.values())
        self._overall(active, complete)
        return complete == self._total


class _GlobalJob:
    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._nodes: set[str] | None = None

    def update(self, service: Json, tasks: list[Json], nodes: set[str], *, rolling_back: bool) -> bool:  # noqa: ARG002
        current = _job_tasks(service, tasks, "NodeID")
        if self._nodes is None:
            if not tasks and nodes:
                self._shown.update("job progress", "waiting for tasks")
                return False
            self._nodes = set(current)
        current = {node: task for node, task in current.items() if node in self._nodes}
        if len(self._nodes) <= _MAX_BARS:
            for node, task in sorted(current.items()):
                _show_job_task(self._shown, node, task)
        complete, total = sum(_state(t) == "complete" for t in current.values()), len(self._nodes)
        self._shown.update("job progress", f"{complete:{len(str(total))}d} out of {total} complete", complete, total)
        return complete == total
