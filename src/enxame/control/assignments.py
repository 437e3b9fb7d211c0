"""What a node is to have, and how that changes: its tasks and only the networks, secrets and configs they need.

One :class:`NodeAssignments` per session. A manager with many sessions splits a commit's events once with
:func:`route`, so that a session looks at its own alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Literal, TypeVar

from msgspec.structs import replace

from enxame.control.network_keys import is_encrypted
from enxame.control.network_state import is_made_by_nodes
from enxame.control.network_table import Changes, NetworkTables, TablesTold, has_table
from enxame.model.attachment import Attachment
from enxame.model.base import Meta
from enxame.model.cluster import DEFAULT_DATA_PATH_PORT, Cluster, NetworkKey
from enxame.model.dispatch import Assignments, DataPath
from enxame.model.network import Network
from enxame.model.node import Node
from enxame.model.secret import Config, Secret
from enxame.model.task import Task, TaskState
from enxame.store.interface import Event, View

T = TypeVar("T", bound=Meta)


def route(events: Iterable[Event]) -> tuple[dict[str, list[Event]], list[Event]]:
    """Events of tasks and attachments by node id; those that any node may have to see (networks, secrets, configs)."""
    own: dict[str, list[Event]] = {}
    shared: list[Event] = []
    for event in events:
        if isinstance(event.object, (Task, Attachment)):
            if event.object.node_id:
                own.setdefault(event.object.node_id, []).append(event)
        elif isinstance(event.object, (Network, Secret, Config, Cluster)):
            shared.append(event)
    return own, shared


class _Needed(Generic[T]):
    """Objects of a kind that tasks need: how many tasks need each, and what changed since the last message."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._users: dict[str, int] = {}
        self._sent: set[str] = set()
        self._outdated: set[str] = set()
        self._stale: dict[str, None] = {}
        #: Possibly there though never sent.
        self._left: set[str] = set()

    def use(self, object_id: str) -> None:
        self._users[object_id] = self._users.get(object_id, 0) + 1
        self._stale[object_id] = None

    def drop(self, object_id: str) -> None:
        left = self._users[object_id] - 1
        if left:
            self._users[object_id] = left
        else:
            del self._users[object_id]
            self._stale[object_id] = None

    def may_have(self, object_id: str) -> None:
        """The node may have it in another way than by being sent it: what nobody needs there is taken away."""
        self._left.add(object_id)
        self._stale[object_id] = None

    def ids(self) -> Iterable[str]:
        """What is needed now."""
        return self._users

    def changed(self, object_id: str) -> None:
        if object_id in self._users:
            self._outdated.add(object_id)
            self._stale[object_id] = None

    def take(self, view: View) -> tuple[list[T], list[str]]:
        """What to send and what to take away."""
        send: list[T] = []
        remove: list[str] = []
        for object_id in self._stale:
            if object_id not in self._users:
                if object_id in self._sent or object_id in self._left:
                    self._sent.discard(object_id)
                    remove.append(object_id)
            elif object_id not in self._sent or object_id in self._outdated:
                # One that was deleted while it is in use stays with the node until nobody uses it.
                obj = view.get(self._kind, object_id)
                if obj is not None:
                    self._sent.add(object_id)
                    send.append(obj)
        self._stale.clear()
        self._left.clear()
        self._outdated.clear()
        return send, remove


class NodeAssignments:
    """A session's view of what its node was told. First :meth:`complete`, then :meth:`update` with all events after.

    ``tables`` are the manager's, kept in step by it; their changes come through :meth:`tables_changed`.
    """

    def __init__(self, node_id: str, tables: NetworkTables) -> None:
        self.node_id = node_id
        self._tables = tables
        self._told = TablesTold(tables)
        self._tasks: dict[str, Task] = {}
        self._needs: dict[str, tuple[list[str], list[str], list[str]]] = {}
        self._ingress: set[str] = set()
        self._told_path: DataPath | None = None
        self._path_may_differ = True
        #: Network ids by attachment id.
        self._attached: dict[str, str] = {}
        self._networks = _Needed(Network)
        self._secrets = _Needed(Secret)
        self._configs = _Needed(Config)

    def complete(self, view: View) -> Assignments:
        """Everything the node is to have; forgets what was sent before."""
        self.__init__(self.node_id, self._tables)  # type: ignore[misc]
        for network in view.all(Network):
            self._see_network(view, network.id)
        for task in view.find(Task, "node_id", self.node_id):
            self._see_task(view, task.id)
        attachments = view.find(Attachment, "node_id", self.node_id)
        for attachment in attachments:
            self._see_attachment(view, attachment.id)
        message = self._collect(view, list(self._tasks.values()), [])
        return replace(message, complete=True, attachments=attachments)

    def knows(self, network_id: str) -> bool:
        """Whether the node was told who is on a network."""
        return self._told.knows(network_id)

    def tables_changed(self, changes: Changes) -> bool:
        """The tables changed so; whether there is something to tell this node."""
        return self._told.changed(changes)

    def update(self, view: View, events: Iterable[Event]) -> Assignments | None:
        """The difference since the last message, None when there is none."""
        send: dict[str, Task] = {}
        removed: dict[str, None] = {}
        for event in events:
            obj = event.object
            if isinstance(obj, Task):
                if obj.node_id != self.node_id and obj.id not in self._tasks:
                    continue
                outcome = self._see_task(view, obj.id)
                if outcome is False:
                    send.pop(obj.id, None)
                    removed[obj.id] = None
                elif outcome is not None:
                    send[obj.id] = outcome
            elif isinstance(obj, Attachment):
                self._see_attachment(view, obj.id)
                if obj.node_id == self.node_id and (obj.addresses or _by_nodes(view, obj)):
                    # The network came with the answer to it, and it may have ended before anything was sent.
                    self._networks.may_have(obj.network_id)
            elif isinstance(obj, Network):
                self._see_network(view, obj.id)
                self._networks.changed(obj.id)
            elif isinstance(obj, Secret):
                self._secrets.changed(obj.id)
            elif isinstance(obj, Config):
                self._configs.changed(obj.id)
            elif isinstance(obj, Cluster):
                self._path_may_differ = True
        message = self._collect(view, list(send.values()), list(removed))
        return None if message == _NOTHING else message

    # Inside

    def _see_task(self, view: View, task_id: str) -> Task | Literal[False] | None:
        """The task if it must be sent, False if it must go, None if nothing changed for the node."""
        known, task = self._tasks.get(task_id), view.get(Task, task_id)
        if task is None or task.node_id != self.node_id or not _is_for_node(task):
            if known is None:
                return None
            del self._tasks[task_id]
            self._release(task_id)
            return False
        self._tasks[task_id] = task
        if task.status.state.is_terminal:
            self._release(task_id)
        elif task_id not in self._needs:
            self._require(task)
        if known is not None and known.desired_state is task.desired_state and _same_placement(known, task):
            return None
        return task

    def _see_attachment(self, view: View, attachment_id: str) -> None:
        attachment = view.get(Attachment, attachment_id)
        wanted = (
            attachment is not None
            and attachment.node_id == self.node_id
            and (bool(attachment.addresses) or _by_nodes(view, attachment))
        )
        if attachment is not None and wanted and attachment_id not in self._attached:
            self._attached[attachment_id] = attachment.network_id
            self._networks.use(attachment.network_id)
        elif not wanted and attachment_id in self._attached:
            self._networks.drop(self._attached.pop(attachment_id))

    def _require(self, task: Task) -> None:
        container = task.spec.container_spec
        networks = [
            attachment.network.id
            for attachment in task.networks_attachments
            if attachment.addresses or is_made_by_nodes(attachment.network)
        ]
        secrets = [reference.secret_id for reference in container.secrets] if container is not None else []
        configs = [reference.config_id for reference in container.configs] if container is not None else []
        self._needs[task.id] = (networks, secrets, configs)
        for network_id in networks:
            self._networks.use(network_id)
        for secret_id in secrets:
            self._secrets.use(secret_id)
        for config_id in configs:
            self._configs.use(config_id)

    def _release(self, task_id: str) -> None:
        networks, secrets, configs = self._needs.pop(task_id, ([], [], []))
        for network_id in networks:
            self._networks.drop(network_id)
        for secret_id in secrets:
            self._secrets.drop(secret_id)
        for config_id in configs:
            self._configs.drop(config_id)

    def _see_network(self, view: View, network_id: str) -> None:
        network = view.get(Network, network_id)
        # Every node answers on published ports, whether it runs tasks of the service or not.
        wanted = network is not None and network.spec.ingress and network.ipam_options is not None
        if wanted and network_id not in self._ingress:
            self._ingress.add(network_id)
            self._networks.use(network_id)
        elif not wanted and network_id in self._ingress:
            self._ingress.remove(network_id)
            self._networks.drop(network_id)

    def _data_path(self, view: View) -> DataPath | None:
        node, cluster = view.get(Node, self.node_id), next(iter(view.all(Cluster)), None)
        if node is None or cluster is None or not node.data_path_addr:
            return None
        port = cluster.data_path_port or DEFAULT_DATA_PATH_PORT
        networks = (view.get(Network, network_id) for network_id in self._networks.ids())
        internal = cluster.internal
        keys: list[NetworkKey] = []
        if internal is not None and any(network is not None and is_encrypted(network) for network in networks):
            keys = internal.network_keys
        return DataPath(node_id=node.id, address=node.data_path_addr, port=port, keys=keys)

    def _news_of_path(self, view: View) -> DataPath | None:
        path = self._data_path(view)
        self._path_may_differ = False
        if path == self._told_path:
            return None
        self._told_path = path
        return path

    def _collect(self, view: View, tasks: list[Task], removed: list[str]) -> Assignments:
        networks, removed_networks = self._networks.take(view)
        secrets, removed_secrets = self._secrets.take(view)
        configs, removed_configs = self._configs.take(view)
        look = self._path_may_differ or networks or removed_networks
        return Assignments(
            data_path=self._news_of_path(view) if look else None,
            tasks=tasks,
            removed_tasks=removed,
            networks=networks,
            removed_networks=removed_networks,
            secrets=secrets,
            removed_secrets=removed_secrets,
            configs=configs,
            removed_configs=removed_configs,
            tables=self._told.take([network.id for network in networks if has_table(network)], removed_networks),
        )


_NOTHING = Assignments()


def _by_nodes(view: View, attachment: Attachment) -> bool:
    network = view.get(Network, attachment.network_id)
    return network is not None and is_made_by_nodes(network)


def _is_for_node(task: Task) -> bool:
    return task.status.state >= TaskState.ASSIGNED and task.status.state is not TaskState.ORPHANED


def _same_placement(known: Task, task: Task) -> bool:
    return (
        known.networks_attachments is task.networks_attachments
        or known.networks_attachments == task.networks_attachments
    )
