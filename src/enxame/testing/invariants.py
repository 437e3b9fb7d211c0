"""What must hold at every moment of a simulated swarm, and what must hold once it has been left in peace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from enxame.control.board import is_dead, is_wanted
from enxame.control.enforcer import REJECTED_BY_ENFORCER
from enxame.control.heartbeats import Health
from enxame.control.leader import Leader
from enxame.control.new_task import task_spec
from enxame.control.replicated import replicas
from enxame.control.rollout import UNDER_WAY
from enxame.model.base import Meta
from enxame.model.cluster import Cluster
from enxame.model.network import Network
from enxame.model.node import Node
from enxame.model.service import Service
from enxame.model.task import Task, TaskState
from enxame.store.interface import Action, Event
from enxame.store.tables import Table
from enxame.testing.fake_runtime import LocalTask

if TYPE_CHECKING:
    from enxame.testing.sim_swarm import SimSwarm

#: A node that nothing has been wrong with for so long is never held to be down: its longest back-off, and some more.
WELL: Final = 20.0
#: A node that has not been in reach for so long is not ready any more: seconds (what is forgiven to nodes of a manager
#: that was away itself, with room for flapping ones).
MISSED_WITHIN: Final = 40.0
#: A drained node's tasks are to stop, and have stopped, within so many seconds.
DRAINED_WITHIN: Final = 10.0
#: Between two looks at what must hold within some time: seconds.
PROBE: Final = 5.0

#: Why a task may wait for ever: there is no room for it.
_NO_ROOM = (
    "no suitable node",
    "insufficient resources",
    "max replicas per node",
    "could not find an available IP",
    "host-mode port",
    "port '",
)


class Violation(AssertionError):
    """An invariant does not hold."""


class Invariants:
    """Checks a run as it goes."""

    def __init__(self, swarm: SimSwarm) -> None:
        self._swarm = swarm
        self._versions: dict[str, int] = {}
        self._addresses: dict[tuple[str, str], str] = {}
        self._addresses_of: dict[str, list[tuple[str, str]]] = {}
        self._ports: dict[tuple[int, str], str] = {}
        self._ports_of: dict[str, list[tuple[int, str]]] = {}
        self._running: dict[tuple[str, int], set[str]] = {}
        self._acknowledged: dict[str, tuple[int, bool]] = {}
        self._drained: dict[str, float] = {}
        #: Containers that the leader was right to give up: their node was lost.
        self._lost: set[str] = set()

    # At every moment

    def see(self, events: Iterable[Event], *, user: bool = False) -> None:
        """A commit's changes; ``user``: somebody asked for them."""
        # A commit is atomic: what it gives back it may give away again.
        events = list(events)
        for event in events:
            self._give_back(event.object.id)
        for event in events:
            obj = event.object
            self._monotonic(event)
            if isinstance(obj, Task):
                self._see_task(event, obj)
            elif isinstance(obj, Service):
                self._see_service(event, obj)
                self._keeps_its_spec(event, obj, user=user)
            elif isinstance(obj, Node) and (event.action is Action.DELETE or obj.status.state == "down"):
                # Those that it was told of and has not begun may begin any time: nobody can tell it not to.
                self._lost.update(task.id for task in self._swarm.store.view.find(Task, "node_id", obj.id))

    def acknowledged(self, events: Iterable[Event]) -> None:
        """A user was told that these changes are made: whatever happens, they stay."""
        for event in events:
            self._acknowledged[event.object.id] = (event.version, event.action is Action.DELETE)

    def judged(self, node_id: str, health: Health) -> None:
        """The failure detector's verdict on a node: nobody is accused who did nothing."""
        link = self._swarm.links.get(node_id)
        if health is not Health.DOWN or link is None:
            return
        now = self._swarm.clock.mono
        if link.well_since is not None and now - link.well_since > WELL:
            raise Violation(f"node {node_id} is held to be down, but has been well for {now - link.well_since:.1f} s")
        led_since = self._swarm.led_since
        if now < link.excused_until and led_since is not None and led_since <= link.excused_at:
            raise Violation(f"node {node_id} is held to be down before the time that it asked for")

    def probe(self) -> None:
        """What must hold within some time, and what was acknowledged."""
        swarm, now = self._swarm, self._swarm.clock.mono
        for object_id, (revision, deleted) in self._acknowledged.items():
            present = self._find(object_id)
            if (present is None) is not deleted or (present is not None and present.version.index < revision):
                raise Violation(f"what was acknowledged of {object_id} at revision {revision} is lost")
        led_for = now - swarm.led_since if swarm.led_since is not None else 0.0
        for node in swarm.store.view.all(Node):
            link = swarm.links[node.id]
            missing = now - link.unheard_since if link.unheard_since is not None else 0.0
            missing = missing if now >= link.excused_until else 0.0
            if min(missing, led_for) > MISSED_WITHIN and node.status.state == "ready":
                raise Violation(f"node {node.id} is ready, but has been out of reach for {missing:.0f} s")
            drained = self._for(self._drained, node.id, node.spec.availability == "drain")
            if min(drained, led_for) > DRAINED_WITHIN:
                for task in swarm.store.view.find(Task, "node_id", node.id):
                    if is_wanted(task) and not is_dead(task):
                        raise Violation(
                            f"task {task.id} is still to run on node {node.id}, drained {drained:.0f} s ago"
                        )

    def _for(self, since: dict[str, float], node_id: str, holds: bool) -> float:
        """For how long something has been so, as far as probes can tell."""
        if not holds:
            since.pop(node_id, None)
            return 0.0
        return self._swarm.clock.mono - since.setdefault(node_id, self._swarm.clock.mono)

    def _find(self, object_id: str) -> Meta | None:
        view = self._swarm.store.view
        kinds: tuple[type[Meta], ...] = (Service, Node, Cluster, Network)
        return next(filter(None, (view.get(kind, object_id) for kind in kinds)), None)

    @staticmethod
    def _keeps_its_spec(event: Event, service: Service, *, user: bool) -> None:
        """What a user asked for is changed by nobody else, except back to what was asked before."""
        old = event.old
        if user or event.action is not Action.UPDATE or not isinstance(old, Service):
            return
        if service.spec not in (old.spec, old.previous_spec):
            raise Violation(f"the spec of {service.id} was changed by nobody")

    def container_moved(self, local: LocalTask) -> None:
        """A container started or stopped: never two of one slot unless the update wants both or a node was lost."""
        task = local.task
        if not task.slot:
            return
        key = (task.service_id, task.slot)
        running = self._running.setdefault(key, set())
        if not local.runs:
            running.discard(task.id)
            self._lost.discard(task.id)
            return
        running.add(task.id)
        if len(running - self._lost) > 1 and not self._may_overlap(task, running - self._lost):
            raise Violation(f"two containers run in slot {key}: {sorted(running)}")

    def _may_overlap(self, task: Task, running: set[str]) -> bool:
        view = self._swarm.store.view
        service = view.get(Service, task.service_id)
        if service is None:
            return True
        for spec in (service.spec, service.previous_spec):
            for config in (spec.update_config, spec.rollback_config) if spec is not None else ():
                if config is not None and config.order == "start-first":
                    return True
        # The enforcer's rejection is Swarm's: it does not wait for the container's end.
        stored = [view.get(Task, task_id) for task_id in running]
        return any(other is None or other.status.message == REJECTED_BY_ENFORCER for other in stored)

    def _monotonic(self, event: Event) -> None:
        obj = event.object
        if event.action is not Action.DELETE:
            if obj.version.index <= self._versions.get(obj.id, 0):
                raise Violation(f"the version of {obj.id} went back")
            self._versions[obj.id] = obj.version.index

    def _see_task(self, event: Event, task: Task) -> None:
        old = event.old
        if event.action is Action.UPDATE and isinstance(old, Task):
            if task.status.state < old.status.state:
                raise Violation(f"task {task.id} went from {old.status.state} back to {task.status.state}")
            if task.desired_state < old.desired_state:
                raise Violation(f"task {task.id}: desired {old.desired_state} became {task.desired_state}")
            if task.spec != old.spec or (old.node_id and old.node_id != task.node_id):
                raise Violation(f"task {task.id} changed its spec or its node")
        gone = event.action is Action.DELETE
        holds = not is_dead(task) or task.status.message == REJECTED_BY_ENFORCER
        if not gone and holds:
            self._hold(task)

    def _give_back(self, object_id: str) -> None:
        for address in self._addresses_of.pop(object_id, []):
            del self._addresses[address]
        for port in self._ports_of.pop(object_id, []):
            del self._ports[port]

    def _hold(self, task: Task) -> None:
        for attachment in task.networks_attachments:
            for address in attachment.addresses:
                key = (attachment.network.id, address)
                other = self._addresses.setdefault(key, task.id)
                if other != task.id:
                    raise Violation(f"tasks {other} and {task.id} share {address}")
                self._addresses_of.setdefault(task.id, []).append(key)

    def _see_service(self, event: Event, service: Service) -> None:
        if event.action is Action.DELETE:
            return
        for entry in service.endpoint.ports:
            if entry.publish_mode == "ingress":
                key = (entry.published_port, entry.protocol)
                if not entry.published_port or key in self._ports:
                    raise Violation(f"port {key} of {service.id} is also of {self._ports.get(key)}")
                self._ports[key] = service.id
                self._ports_of.setdefault(service.id, []).append(key)

    # In the end

    def updates_under_way(self) -> dict[str, object]:
        """By service, how far its update has come; not of those in which a task waits for room or for its node."""
        view = self._swarm.store.view
        progress: dict[str, object] = {}
        for service in view.all(Service):
            status, version = service.update_status, service.internal.spec_version if service.internal else 0
            tasks = list(view.find(Task, "service_id", service.id))
            waits = (is_wanted(task) and task.status.err and task.status.state <= TaskState.PENDING for task in tasks)
            if status is not None and status.state in UNDER_WAY and not any(waits):
                done = (task for task in tasks if task.internal is not None and task.internal.spec_version == version)
                progress[service.id] = status.state, version, sorted({str(task.slot or task.node_id) for task in done})
        return progress

    def settled(self, *, room: bool = False) -> None:
        """After a long rest with all nodes up and all images good: everything is as asked, and nothing is left over.
        ``room``: nobody asks for more than there is, so nothing has a reason to wait.
        """
        view = self._swarm.store.view
        services = {service.id: service for service in view.all(Service)}
        for service in services.values():
            self._service_is_well(service)
            if room and (waiting := self.waiting(service)):
                raise Violation(f"task {waiting[0].id} of {service.id} waits for nothing: {waiting[0].status}")
        for task in view.all(Task):
            if task.service_id not in services:
                raise Violation(f"task {task.id} outlives its service")
        for node_id, link in self._swarm.links.items():
            stored = {task.id: task for task in view.find(Task, "node_id", node_id)}
            for task_id, local in link.node.tasks.items():
                if task_id not in stored:
                    raise Violation(f"node {node_id} still has task {task_id}")
                if local.runs and stored[task_id].desired_state is not TaskState.RUNNING:
                    raise Violation(f"node {node_id} runs task {task_id} that is to stop")
        self._indexes_are_true()
        self._same_after_election()

    def _indexes_are_true(self) -> None:
        """The store's indexes hold what an index made anew would hold."""
        for kind, table in self._swarm.store.tables.by_kind.items():
            anew = Table(table.kind)
            for obj in table.objects.values():
                anew.put(obj)
            if not table.same_indexes(anew):
                raise Violation(f"an index of {kind.__name__} leaked")

    def waiting(self, service: Service) -> list[Task]:
        """The service's tasks that are to run and do not."""
        tasks = self._swarm.store.view.find(Task, "service_id", service.id)
        if service.job_status is not None:
            return [task for task in tasks if not is_dead(task)]
        return [task for task in tasks if is_wanted(task) and task.status.state is not TaskState.RUNNING]

    def _service_is_well(self, service: Service) -> None:
        view = self._swarm.store.view
        tasks = list(view.find(Task, "service_id", service.id))
        waiting = self.waiting(service)
        if service.job_status is not None:
            self._job_is_done(service, tasks, waiting)
            return
        wanted = [task for task in tasks if is_wanted(task)]
        for task in waiting:
            if task.status.state > TaskState.PENDING or not _has_no_room(task):
                raise Violation(f"task {task.id} of {service.id} hangs: {task.status}")
        slots = {task.slot for task in wanted}
        if service.spec.mode.replicated is not None and len(slots) != replicas(service) and not waiting:
            raise Violation(f"service {service.id} wants {replicas(service)} tasks, has {len(slots)}")
        if len(slots) != len(wanted) and service.spec.mode.replicated is not None and not waiting:
            raise Violation(f"service {service.id} has too many tasks: {len(wanted)} for {len(slots)} slots")
        asked = task_spec(service, next(iter(view.all(Cluster)), None))
        for task in wanted:
            if task.spec != asked and not waiting:
                raise Violation(f"task {task.id} of {service.id} was never updated")
        status = service.update_status
        if status is not None and status.state in UNDER_WAY and not waiting:
            raise Violation(f"the update of {service.id} never ends: {status}")
        by_slot: dict[object, int] = {}
        for task in tasks:
            by_slot[task.slot or task.node_id] = by_slot.get(task.slot or task.node_id, 0) + 1
        policy = service.spec.task_template.restart_policy
        limit = max(5, (policy.max_attempts or 0) + 1 if policy is not None else 0)
        if any(count > limit for count in by_slot.values()):
            raise Violation(f"history of {service.id} is not reaped: {by_slot}")

    @staticmethod
    def _job_is_done(service: Service, tasks: list[Task], waiting: list[Task]) -> None:
        done = {task.slot or task.node_id for task in tasks if task.status.state is TaskState.COMPLETE}
        for task in waiting:
            if not task.status.err.startswith(_NO_ROOM):
                raise Violation(f"task {task.id} of job {service.id} hangs: {task.status}")
        job = service.spec.mode.replicated_job
        if job is not None and not waiting and len(done) != job.total_completions:
            raise Violation(f"job {service.id} completed {len(done)} of {job.total_completions}")

    def _same_after_election(self) -> None:
        """A new leader, from the store alone, knows the same: nothing leaked in the old one's memory."""
        leader, swarm = self._swarm.leader, self._swarm
        if leader is None:
            raise Violation("there is no leader")
        other = Leader(swarm.new_id, swarm.rng.random)
        before = swarm.store.revision
        swarm.commit(lambda tx: other.start(tx, swarm.clock.now()))
        if swarm.store.revision != before and not all(map(_only_explains, swarm.last_events)):
            done = "; ".join(f"{event.old} became {event.object}" for event in swarm.last_events)
            raise Violation(f"a new leader finds things to do in a settled swarm: {done}")
        mine, theirs = leader.ledger(), other.ledger()
        for key in sorted({*mine, *theirs}):
            if mine.get(key) != theirs.get(key):
                raise Violation(f"{key} leaked: {mine.get(key)} in memory, {theirs.get(key)} in the store")


def _has_no_room(task: Task) -> bool:
    # A service that was rolled back has its old constraints again.
    constrained = task.spec.placement is not None and task.status.err.startswith("scheduling constraints")
    return constrained or task.status.err.startswith(_NO_ROOM)


def _only_explains(event: Event) -> bool:
    """A waiting task was told anew why it waits: the reason follows what ends, not what begins."""
    old, new = event.old, event.object
    if not isinstance(old, Task) or not isinstance(new, Task) or old.status.state is not new.status.state:
        return False
    return old.desired_state is new.desired_state and bool(old.status.err) and bool(new.status.err)
