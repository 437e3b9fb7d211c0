"""A node's side of the swarm: makes what is assigned true on this machine, and says what is.

Works without a manager: tasks in the database go on after a restart of the daemon before any manager was heard.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Protocol

from enxame.agent.controller import Executor
from enxame.agent.database import TaskDatabase
from enxame.agent.payloads import PayloadFiles
from enxame.agent.reporter import StatusReporter, StatusSink
from enxame.agent.worker import TaskWorker
from enxame.errors import EnxameError, Unavailable
from enxame.model.attachment import Attached, Attachment, AttachRequest, DetachRequest
from enxame.model.dispatch import Assignments, DataPath, NetworkTable
from enxame.model.filters import Filters
from enxame.model.network import Network, NetworkResource
from enxame.model.task import Task, TaskState

log = logging.getLogger(__name__)

#: A task that is to stop waits at most so long for other nodes to send it nothing new.
WITHDRAWAL_SECONDS: Final = 2.5


def _nothing() -> None:
    """Nobody waits."""


class Session(StatusSink, Protocol):
    """The conversation with a manager."""

    async def assignments(self) -> Assignments:
        """The next assignment set; the first one is complete. Waits for a change."""
        ...

    async def withdraw(self, task_id: str) -> None:
        """A task is about to stop: returns when nobody sends it anything new."""
        ...

    async def acknowledge(self, number: int) -> None:
        """What came with this number is done."""
        ...

    async def attach(self, request: AttachRequest) -> Attached:
        """Put a container outside any service on an attachable network."""
        ...

    async def detach(self, request: DetachRequest) -> None:
        """Take it off again."""
        ...


class Attacher(Protocol):
    """Asks a manager for addresses of containers outside services."""

    async def attach(self, request: AttachRequest) -> Attached:
        """Put a container on an attachable network."""
        ...

    async def detach(self, request: DetachRequest) -> None:
        """Take it off again."""
        ...


class NodeNetworks(Protocol):
    """The node's side of the swarm's networks."""

    def set_attacher(self, attacher: Attacher) -> None:
        """Who asks the manager for addresses of containers outside services."""
        ...

    def unset_attacher(self, attacher: Attacher) -> None:
        """It asks no more; nothing happens when another has taken its place."""
        ...

    async def compare_attachments(self, known: Sequence[Attachment]) -> None:
        """Tell the manager what became of the containers outside services that it knows, and of others."""
        ...

    async def leave_swarm_networks(self) -> None:
        """Take all containers outside services off the swarm's networks."""
        ...

    async def set_data_path(self, data_path: DataPath) -> None:
        """Where this machine takes packets for its containers."""
        ...

    async def ensure_swarm_network(self, network: Network) -> None:
        """Make the network present on this machine."""
        ...

    async def remove_swarm_network(self, network_id: str) -> None:
        """Remove it from this machine."""
        ...

    async def set_network_tables(self, tables: Sequence[NetworkTable], *, complete: bool) -> None:
        """Who is on the swarm's networks. ``complete``: there are no other tables."""
        ...

    def list(self, filters: Filters) -> Sequence[NetworkResource]:
        """The networks that are present on this machine."""
        ...


class Agent:
    """One per node that is in a swarm."""

    def __init__(
        self,
        *,
        executor: Executor,
        networks: NodeNetworks,
        database: TaskDatabase,
        payloads: PayloadFiles,
        wall: Callable[[], datetime],
    ) -> None:
        self._executor = executor
        self._networks = networks
        self._database = database
        self._payloads = payloads
        self._wall = wall
        self._workers: dict[str, TaskWorker] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._reporter = StatusReporter()
        self._session: Session | None = None
        self._leaving_networks: set[str] = set()
        #: Those that could not be made: what is in their way may go.
        self._missing_networks: dict[str, Network] = {}

    async def start(self) -> None:
        """Take up the tasks and networks that this node had."""
        self._networks.set_attacher(self)
        for task in await self._database.open():
            self._begin(task)

    async def run(self, session: Session) -> None:
        """Talk with a manager until the session ends (raises) or is cancelled."""
        for worker in self._workers.values():
            self._reporter.report(worker.task.id, worker.task.status)
        self._session = session
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._reporter.run(session))
                group.create_task(self._follow(session, group))
        finally:
            if self._session is session:
                self._session = None

    async def attach(self, request: AttachRequest) -> Attached:
        """Put a container outside any service on an attachable network.

        Raises:
            Unavailable: no manager is in reach.
            EnxameError: the manager refuses.
        """
        if self._session is None:
            raise Unavailable("no manager of the swarm is in reach")
        return await self._session.attach(request)

    async def detach(self, request: DetachRequest) -> None:
        """Take it off again. Raises as :meth:`attach`."""
        if self._session is None:
            raise Unavailable("no manager of the swarm is in reach")
        await self._session.detach(request)

    async def stop(self) -> None:
        """Stop working; containers go on."""
        self._networks.unset_attacher(self)
        running = list(self._running.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        await self._database.close()

    async def withdraw_everything(self) -> None:
        """Let nobody send any task here anything new; no longer than is worth waiting for."""
        running = [id_ for id_, worker in self._workers.items() if worker.task.status.state is TaskState.RUNNING]
        await asyncio.gather(*(self._withdraw(task_id) for task_id in running))

    async def remove_everything(self, patience: float) -> None:
        """This node leaves its swarm: its tasks' containers and networks go. Tasks may take so many seconds to stop."""
        for worker in list(self._workers.values()):
            worker.remove(patience)
        running = list(self._running.values())
        if running:
            await asyncio.wait(running)
        await self._networks.set_network_tables([], complete=True)
        await self._networks.leave_swarm_networks()
        for network_id in self._networks_here():
            await self._networks.remove_swarm_network(network_id)

    async def _follow(self, session: Session, group: asyncio.TaskGroup) -> None:
        while True:
            assignments = await session.assignments()

            def settled(number: int = assignments.acknowledge) -> None:
                if number:
                    group.create_task(self._acknowledge(session, number))

            await self.apply(assignments, settled)
            if assignments.complete:
                group.create_task(self._compare_attachments(assignments))

    async def _compare_attachments(self, assignments: Assignments) -> None:
        try:
            await self._networks.compare_attachments(assignments.attachments)
        except (EnxameError, OSError) as error:
            log.warning("containers outside services could not be compared with what the manager knows: %s", error)

    @staticmethod
    async def _acknowledge(session: Session, number: int) -> None:
        try:
            await session.acknowledge(number)
        except EnxameError as error:
            log.debug("the manager did not hear that its tables are true: %s", error)

    async def _withdraw(self, task_id: str) -> None:
        """Let nobody send a task anything new; no longer than is worth waiting for."""
        if self._session is None:
            return
        try:
            async with asyncio.timeout(WITHDRAWAL_SECONDS):
                await self._session.withdraw(task_id)
        except (EnxameError, TimeoutError) as error:
            log.warning("task %s stops before all nodes know: %s", task_id, error or "the manager is slow")

    async def apply(self, assignments: Assignments, settled: Callable[[], None] = _nothing) -> None:
        """Make an assignment set true. ``settled`` is called when packets and names go as it says."""
        self._payloads.keep(assignments.secrets, assignments.configs)
        gone = set(assignments.removed_tasks)
        if assignments.complete:
            gone |= set(self._workers) - {task.id for task in assignments.tasks}
        for task_id in gone & self._workers.keys():  # first: they may be in the way of what is to be made
            self._workers[task_id].remove()
        if assignments.data_path is not None:
            await self._set_data_path(assignments.data_path)
        for network in assignments.networks:
            await self._ensure_network(network)
        if assignments.tables or assignments.complete:
            await self._set_tables(assignments)
        settled()
        for task in assignments.tasks:
            worker = self._workers.get(task.id)
            if worker is None:
                self._begin(task)
                self._database.save(task)
            else:
                worker.desire(task)
        if assignments.complete:
            assigned = {network.id for network in assignments.networks}
            # Also those that were taken away while no daemon ran, or that came with the answer to an attachment.
            self._leaving_networks |= self._networks_here() - assigned
            for network_id in self._missing_networks.keys() - assigned:
                del self._missing_networks[network_id]
        self._payloads.drop(assignments.removed_secrets, assignments.removed_configs)
        for network_id in assignments.removed_networks:
            self._leaving_networks.add(network_id)
            self._missing_networks.pop(network_id, None)
        await self._tidy_networks()

    def _begin(self, task: Task) -> None:
        controller = self._executor.controller(task, self._withdraw)
        worker = TaskWorker(task, controller, self._changed, self._wall)
        self._workers[task.id] = worker
        self._running[task.id] = asyncio.get_running_loop().create_task(self._work(worker), name=f"task {task.id}")

    async def _work(self, worker: TaskWorker) -> None:
        task_id = worker.task.id
        try:
            await worker.run()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("the worker of task %s ended unexpectedly", task_id)
        else:
            self._database.forget(task_id)
            # First: of two that end together each would take the other's networks for used.
            self._end(worker)
            await self._tidy_networks()
        finally:
            self._end(worker)
            if self._running.get(task_id) is asyncio.current_task():
                del self._running[task_id]

    def _end(self, worker: TaskWorker) -> None:
        """It works no more. Idempotent: another may work on a task of the same id by now."""
        if self._workers.get(worker.task.id) is worker:
            del self._workers[worker.task.id]

    def _changed(self, task: Task) -> None:
        self._database.save(task)
        self._reporter.report(task.id, task.status)

    async def _ensure_network(self, network: Network) -> None:
        self._leaving_networks.discard(network.id)
        try:
            await self._networks.ensure_swarm_network(network)
        except (EnxameError, OSError) as error:
            # Tasks that need it are rejected with their own message; the others go on.
            log.error("network %s cannot be made here: %s", network.spec.name, error)
            self._missing_networks[network.id] = network
        else:
            self._missing_networks.pop(network.id, None)

    async def _set_data_path(self, data_path: DataPath) -> None:
        try:
            await self._networks.set_data_path(data_path)
        except (EnxameError, OSError) as error:
            log.error("the swarm's networks cannot be led to other machines: %s", error)

    async def _set_tables(self, assignments: Assignments) -> None:
        try:
            await self._networks.set_network_tables(assignments.tables, complete=assignments.complete)
        except (EnxameError, OSError) as error:
            log.error("who is on the swarm's networks could not be programmed: %s", error)

    def _networks_here(self) -> set[str]:
        """Ids of the swarm's networks that this machine has."""
        swarm = Filters({"scope": frozenset({"swarm"})})
        return {network.id for network in self._networks.list(swarm)}

    async def _tidy_networks(self) -> None:
        """Remove networks that the manager took away, once no task here uses them, and make those that had no room."""
        await self._drop_networks()
        for network in list(self._missing_networks.values()):
            if network.id in self._missing_networks:
                await self._ensure_network(network)

    def _networks_of_tasks(self, *, ended: bool) -> set[str]:
        tasks = [worker.task for worker in self._workers.values()]
        return {
            attachment.network.id
            for task in tasks
            if task.status.state.is_terminal == ended
            for attachment in task.networks_attachments
        }

    async def _drop_networks(self) -> None:
        if not self._leaving_networks:
            return
        # What ended is kept for a while to be looked at; its container is on no network any more, or not for long.
        ended = self._networks_of_tasks(ended=True)
        for network_id in self._leaving_networks - self._networks_of_tasks(ended=False):
            if network_id not in self._leaving_networks:  # it is wanted again, or gone
                continue
            try:
                await self._networks.remove_swarm_network(network_id)
            except (EnxameError, OSError) as error:  # tried again: next task's end
                level = logging.DEBUG if network_id in ended else logging.ERROR
                log.log(level, "network %s cannot be removed here: %s", network_id, error)
            else:
                # Only now: a session that breaks meanwhile cancels this, and the next one goes on.
                self._leaving_networks.discard(network_id)
