"""Use cases around tasks: users only look at them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from enxame.control.new_task import differs
from enxame.errors import InvalidArgument
from enxame.manager import lookup
from enxame.manager.matching import matches_head
from enxame.model.base import Meta
from enxame.model.cluster import Cluster
from enxame.model.filters import Filters
from enxame.model.node import Node
from enxame.model.service import Service
from enxame.model.task import Task, TaskState
from enxame.store.interface import View
from enxame.store.store import Store

__all__ = ["TaskControl", "is_up_to_date"]

T = TypeVar("T", bound=Meta)


class TaskControl:
    """``/tasks``. ``node_id`` is this node's: what ``self`` means."""

    def __init__(self, store: Store, node_id: str = "") -> None:
        self._store = store
        self._node_id = node_id

    def list(self, filters: Filters) -> Sequence[Task]:
        """Tasks that match ``id``, ``name``, ``label`` (the service's), ``service``, ``node``, ``desired-state``,
        ``runtime``, ``_up-to-date``. Services and nodes may be given by name; unknown ones raise NotFound.
        """
        view = self._store.view
        services = {lookup.service(view, ref).id for ref in filters.get("service")}
        nodes = {self._node(ref).id for ref in filters.get("node")}
        states = _states(filters)
        if not filters.get("runtime") <= {"container", ""}:
            return []
        found = [
            task
            for task in _candidates(view, services, nodes)
            if (not states or task.desired_state in states)
            and (not nodes or task.node_id in nodes)
            and matches_head(filters, task.id, lookup.task_name(task), _service_labels(task))
        ]
        if "_up-to-date" in filters:
            found = [task for task in found if is_up_to_date(view, task)]
        return found

    def get(self, ref: str) -> Task:
        """The task with this id, name (``service.slot.id``) or beginning of an id."""
        return lookup.task(self._store.view, ref)

    def _node(self, ref: str) -> Node:
        return lookup.node(self._store.view, self._node_id if ref == "self" and self._node_id else ref)


def is_up_to_date(view: View, task: Task) -> bool:
    """Whether the task is what its service asks for now."""
    service = view.get(Service, task.service_id)
    return service is not None and not differs(
        service, task, lambda: next(iter(view.all(Cluster)), None), lambda: view.get(Node, task.node_id)
    )


def _candidates(view: View, services: set[str], nodes: set[str]) -> Iterable[Task]:
    if services:
        return [task for service_id in sorted(services) for task in view.find(Task, "service_id", service_id)]
    if nodes:
        return [task for node_id in sorted(nodes) for task in view.find(Task, "node_id", node_id)]
    return view.all(Task)


def _service_labels(task: Task) -> dict[str, str]:
    return task.internal.service_labels if task.internal is not None else task.labels


def _states(filters: Filters) -> set[TaskState]:
    states: set[TaskState] = set()
    for text in sorted(filters.get("desired-state")):
        try:
            states.add(TaskState(text.lower()))
        except ValueError:
            raise InvalidArgument(f"invalid filter 'desired-state=[{text}]'") from None
    return states
