"""The leader's decisions: one pass over one transaction, from what changed to what is to be done about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from enxame.control import global_, jobs, network_keys, reaper, replicated, revocation, root_rotation
from enxame.control.allocator import Allocator
from enxame.control.board import Board
from enxame.control.nodes import NodeKeeper
from enxame.control.now import Now
from enxame.control.restart import RestartSupervisor
from enxame.control.scheduler import Scheduler
from enxame.control.updater import Updater
from enxame.model.service import Service
from enxame.store.interface import Event, Tx

_MOST_ROUNDS: Final = 8
#: So many changes of tasks and a pass begins with no other service; the next pass, which is at once, goes on. Thousands
#: in one would keep everything else that the manager does waiting. Swarm's number (``MaxChangesPerTransaction``).
_MOST_CHANGES: Final = 200


class Leader:
    """Exists while this node leads. Not to be used again after a transaction of its own was refused, before
    :meth:`start`: what it remembers would not be what is stored.

    ``new_id`` makes ids of tasks, ``rng`` numbers from 0 to 1 that break ties.
    """

    def __init__(self, new_id: Callable[[], str], rng: Callable[[], float]) -> None:
        self._new_id = new_id
        self._rng = rng
        self._fresh()

    def _fresh(self) -> None:
        self._board = Board()
        self._restarts = RestartSupervisor(self._new_id)
        self._updater = Updater(self._restarts)
        self._allocator = Allocator()
        self._scheduler = Scheduler(self._rng)
        self._nodes = NodeKeeper()
        #: Services to be compared with their tasks; those that have waited longest come first.
        self._due: dict[str, None] = {}

    def start(self, tx: Tx, now: Now) -> float | None:
        """Look at everything and heal it. Returns the monotonic time of the next wake-up, None for no such."""
        self._fresh()
        self._board.load(tx, now)
        self._allocator.start(self._board)
        self._scheduler.start(self._board)
        self._restarts.start(self._board)
        self._updater.start(self._board)
        return self._run()

    def step(self, tx: Tx, events: Iterable[Event], now: Now) -> float | None:
        """Look at what the events name and at what is due. Returns the time of the next wake-up, as :meth:`start`."""
        self._board.begin(tx, events, now)
        return self._run()

    def ledger(self) -> dict[str, object]:
        """What is taken, as the leader remembers it: a new leader on the same state must come to the same."""
        return {**self._allocator.ledger(), **self._scheduler.ledger(), **self._board.ledger()}

    def _run(self) -> float | None:
        board, restarts = self._board, self._restarts
        self._allocator.networks_and_services(board)
        if board.keys_due():
            network_keys.review(board, self._rng)
        self._nodes.review(board, restarts)
        # Failures count before they are repaired.
        self._updater.observe(board)
        self._due.update(board.dirty_services)
        reconciled = self._reconcile_due(board)
        # What the one does is news to the other; they come to rest after two or three rounds.
        for turn in range(_MOST_ROUNDS):
            before = board.changes
            self._updater.advance(board, reconciled if turn == 0 else ())
            self._review(board)
            if board.changes == before:
                break
        reaper.reap(board, restarts)
        self._allocator.tasks(board)
        self._scheduler.schedule(board)
        revocation.review(board)
        root_rotation.finish(board.tx)
        wake = board.finish()
        return board.now.mono if self._due else wake

    def _review(self, board: Board) -> None:
        for slot in list(board.dirty_slots):
            service = board.service(slot[0])
            if service is None:
                replicated.remove_slot(board, *slot)
            else:
                self._restarts.review(board, slot, service)
                if service.spec.mode.replicated_job is not None:
                    board.due_jobs[service.id] = None
        for service_id in list(board.due_jobs):
            service = board.service(service_id)
            if service is not None and not jobs.reconcile(board, self._restarts, service):
                self._due[service_id] = None
        board.due_jobs.clear()

    def _reconcile_due(self, board: Board) -> list[str]:
        """Compare services with their tasks until the pass is full. Returns the services' ids."""
        board.allow(_MOST_CHANGES)
        reconciled = []
        while self._due and not board.full:
            service_id = next(iter(self._due))
            del self._due[service_id]
            reconciled.append(service_id)
            if not self._reconcile(board, service_id):
                self._due[service_id] = None
        return reconciled

    def _reconcile(self, board: Board, service_id: str) -> bool:
        service = board.service(service_id)
        if service is not None:
            return self._reconcile_service(board, service)
        self._restarts.forget(service_id)
        self._updater.forget(service_id)
        return replicated.remove_all(board, service_id)

    def _reconcile_service(self, board: Board, service: Service) -> bool:
        mode = service.spec.mode
        if mode.global_ is not None:
            return global_.reconcile(board, self._restarts, service)
        if mode.replicated_job is not None or mode.global_job is not None:
            return jobs.reconcile(board, self._restarts, service)
        return replicated.reconcile(board, self._restarts, service)
