"""Rolling updates: replaces the tasks that are not what their service asks for, a few at a time.

Stop-first sets the old task to stop and makes the new one at once, placed and prepared while the old one stops.
Start-first lets the new one come up before the old one is told to stop. An update's progress is what the tasks show;
only the watch over new tasks is kept in memory and derived again by a new leader.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from enxame.control.board import Board, SlotKey
from enxame.control.new_task import is_dirty
from enxame.control.restart import RestartSupervisor
from enxame.control.rollout import PAUSED, UNDER_WAY, Rollout, rules_of
from enxame.model.service import Service, ServiceInternal, UpdateStatus
from enxame.model.task import Task, TaskState


class Updater:
    """Holds the updates under way, by service id."""

    def __init__(self, restarts: RestartSupervisor) -> None:
        self._restarts = restarts
        self._rollouts: dict[str, Rollout] = {}

    def start(self, board: Board) -> None:
        """Begin anew; :meth:`advance` derives updates under way as it meets their services."""
        self._rollouts.clear()
        board.due_updates.update(dict.fromkeys(board.dirty_services))

    def forget(self, service_id: str) -> None:
        """The service is gone."""
        self._rollouts.pop(service_id, None)

    def observe(self, board: Board) -> None:
        """See the pass's changed tasks before anything is done about them; failures may end an update."""
        if not self._rollouts:
            return
        for task_id in list(board.changed):
            task = board.tasks.get(task_id)
            rollout = self._rollouts.get(task.service_id) if task is not None else None
            if task is None or rollout is None:
                continue
            board.due_updates[task.service_id] = None
            if task_id in rollout.tasks and rollout.note(task, board.now.mono):
                self._fail(board, task)

    def advance(self, board: Board, fresh: Iterable[str]) -> None:
        """Bring every update that something happened to as far as it may go. Of the services with ids in ``fresh`` look
        at all slots first.
        """
        for slot in board.touched:
            if slot[0] in self._rollouts:
                board.due_updates[slot[0]] = None
        look_at = dict.fromkeys(fresh)
        for service_id in {**look_at, **board.due_updates}:
            service = board.service(service_id)
            if service is not None:
                self._advance(board, service, refresh=service_id in look_at)
        board.due_updates.clear()

    # Inside

    def _advance(self, board: Board, service: Service, *, refresh: bool) -> None:
        status = service.update_status
        mode = service.spec.mode
        if mode.replicated_job is not None or mode.global_job is not None:
            return
        if status is not None and status.state in PAUSED:
            self._rollouts.pop(service.id, None)
            return
        rules = rules_of(service)
        rollout = self._rollouts.get(service.id)
        if rollout is None or rollout.rules != rules:
            rollout = Rollout(rules)
            refresh = True
        if refresh:
            self._refresh(board, service, rollout)
            if not rollout.queue and not rollout.active and (status is None or status.state not in UNDER_WAY):
                self._rollouts.pop(service.id, None)
                return
            self._rollouts[service.id] = rollout
        if status is None and (rollout.queue or rollout.active):
            self._set_status(board, service, "updating", "update in progress", begin=True)
        self._work(board, service, rollout)

    def _refresh(self, board: Board, service: Service, rollout: Rollout) -> None:
        """Find the slots to be updated, and the tasks that this update has made already."""
        status = service.update_status
        under_way = status is not None and status.state in UNDER_WAY
        began = status.started_at if status is not None and under_way else None
        first_look = not rollout.total
        rollout.queue.clear()
        running: dict[SlotKey, None] = {}
        for key in board.slots.get(service.id, {}):
            live = self._restarts.updatable(board, (service.id, key), service)
            clean = [task for task in live if not is_dirty(board, service, task)]
            if live and (len(live) > 1 or not clean) and key not in rollout.active:
                up = any(task.status.state is TaskState.RUNNING for task in live)
                (running if up else rollout.queue)[key] = None
            if first_look and began is not None:
                for task in clean:
                    if task.created_at >= began and task.id not in rollout.tasks:
                        self._adopt(board, rollout, key, task)
                if key in rollout.active:
                    rollout.queue.pop(key, None)
                    running.pop(key, None)
        # What does not run loses nothing: it comes first, and may make room for the others.
        rollout.queue.update(running)
        rollout.total = max(rollout.total, len(rollout.queue) + len(rollout.tasks))

    @staticmethod
    def _adopt(board: Board, rollout: Rollout, key: SlotKey, task: Task) -> None:
        state = task.status.state
        if state < TaskState.RUNNING:
            rollout.tasks[task.id] = None
            rollout.active[key] = task.id
        elif state is TaskState.RUNNING:
            age = (board.now.wall - task.status.timestamp).total_seconds()
            rollout.tasks[task.id] = board.now.mono - max(0.0, age)

    def _work(self, board: Board, service: Service, rollout: Rollout) -> None:
        now = board.now.mono
        for key, task_id in list(rollout.active.items()):
            self._check(board, service, rollout, key, task_id)
        while rollout.queue and rollout.places(now) > 0:
            key = next(iter(rollout.queue))
            del rollout.queue[key]
            self._begin(board, service, rollout, key)
        if rollout.queue or rollout.active:
            if rollout.queue and rollout.cooling:
                board.wake_at(min(rollout.cooling), ("update", service.id, ""))
            return
        finish = rollout.finish_time()
        if now < finish:
            board.wake_at(finish, ("update", service.id, ""))
            return
        del self._rollouts[service.id]
        self._complete(board, board.service(service.id) or service)
        # Slots may have died meanwhile.
        board.wake_at(now, ("service", service.id, ""))

    def _check(self, board: Board, service: Service, rollout: Rollout, key: SlotKey, task_id: str) -> None:
        task = board.tasks.get(task_id)
        if task is not None and task.desired_state <= TaskState.RUNNING and task.status.state < TaskState.RUNNING:
            return
        if task is not None and task.status.state is TaskState.RUNNING and task.desired_state <= TaskState.RUNNING:
            others = self._restarts.updatable(board, (service.id, key), service)
            self._shut_down(board, (other for other in others if other.id != task.id))
        rollout.done(key, board.now.mono)

    def _begin(self, board: Board, service: Service, rollout: Rollout, key: SlotKey) -> None:
        slot = (service.id, key)
        live = self._restarts.updatable(board, slot, service)
        clean = [task for task in live if not is_dirty(board, service, task)]
        # One that is wanted running comes before one that still waits.
        clean.sort(key=lambda task: task.desired_state is not TaskState.RUNNING)
        start_first = rollout.rules.start_first
        tasks = board.in_slot(slot)
        if not live and (not tasks or tasks[-1].desired_state is TaskState.REMOVE):
            return
        if not clean:
            self._shut_down(board, _superseded(live) if start_first else live)
            old = () if start_first else tasks
            task = self._restarts.replace(board, slot, service, old, delay=0.0)
            rollout.tasks[task.id] = None
            rollout.active[key] = task.id
            return
        chosen, others = clean[0], [task for task in live if task.id != clean[0].id]
        if chosen.status.state < TaskState.RUNNING:
            rollout.active[key] = chosen.id
        if start_first and chosen.status.state < TaskState.RUNNING and chosen.desired_state is TaskState.RUNNING:
            self._shut_down(board, (task for task in _superseded(live) if task.id != chosen.id))
            return
        self._shut_down(board, others)
        if chosen.desired_state is TaskState.READY and others:
            self._restarts.hold(board, slot, chosen, others)

    @staticmethod
    def _shut_down(board: Board, tasks: Iterable[Task]) -> None:
        for task in tasks:
            if task.desired_state < TaskState.SHUTDOWN:
                board.change(task, desired_state=TaskState.SHUTDOWN)

    # How it ends

    def _fail(self, board: Board, task: Task) -> None:
        service = board.service(task.service_id)
        rollout = self._rollouts.pop(task.service_id, None)
        if service is None or rollout is None or service.update_status is None:
            return
        cause = f"due to failure or early termination of task {task.id}"
        if rollout.rules.rolling_back:
            self._set_status(board, service, "rollback_paused", f"rollback paused {cause}")
        elif rollout.rules.failure_action == "rollback" and service.previous_spec is not None:
            self._roll_back(board, service, f"update rolled back {cause}")
        else:
            self._set_status(board, service, "paused", f"update paused {cause}")

    def _roll_back(self, board: Board, service: Service, message: str) -> None:
        internal = service.internal or ServiceInternal()
        rolled = replace(
            service,
            spec=service.previous_spec,
            previous_spec=None,
            internal=ServiceInternal(
                spec_version=internal.previous_spec_version, registry_auth=internal.previous_registry_auth
            ),
        )
        board.dirty_services[service.id] = None
        self._set_status(board, rolled, "rollback_started", message, begin=True)

    def _complete(self, board: Board, service: Service) -> None:
        status = service.update_status
        if status is None or status.state not in UNDER_WAY:
            return
        if status.state == "updating":
            self._set_status(board, service, "completed", "update completed")
        else:
            self._set_status(board, service, "rollback_completed", "rollback completed")

    @staticmethod
    def _set_status(board: Board, service: Service, state: str, message: str, *, begin: bool = False) -> None:
        wall = board.now.wall
        old = service.update_status
        started = wall if begin or old is None else old.started_at
        done = wall if state in ("completed", "rollback_completed") else None
        status = UpdateStatus(state=state, started_at=started, completed_at=done, message=message)
        board.update_service(replace(service, update_status=status))


def _superseded(live: list[Task]) -> list[Task]:
    """A slot's tasks that a start-first update need not keep until the new one runs: all but the newest that runs."""
    running = [task for task in live if task.status.state is TaskState.RUNNING]
    return [task for task in live if task not in running[-1:]]
