"""Finding the one object that a user means: by full id, then by name, then by the beginning of its id."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from enxame.errors import InvalidArgument, NotFound
from enxame.model.base import Meta
from enxame.model.network import Network
from enxame.model.node import Node
from enxame.model.secret import Config, Secret
from enxame.model.service import Service
from enxame.model.task import Task
from enxame.store.interface import View

__all__ = ["config", "network", "node", "secret", "service", "task", "task_name"]

T = TypeVar("T", bound=Meta)


def service(view: View, ref: str) -> Service:
    """The service. Raises NotFound (``service X not found``) or InvalidArgument (``… is ambiguous …``)."""
    return _find(view, Service, ref, "service")


def node(view: View, ref: str) -> Node:
    """The node; its name is its host name, which need not be unique."""
    return _find(view, Node, ref, "node", lambda: view.find(Node, "hostname", ref))


def task(view: View, ref: str) -> Task:
    """The task; its name is ``service.slot.id``."""
    return _find(view, Task, ref, "task", lambda: [task for task in view.all(Task) if task_name(task) == ref])


def network(view: View, ref: str) -> Network:
    """The swarm network."""
    return _find(view, Network, ref, "network")


def secret(view: View, ref: str) -> Secret:
    """The secret."""
    return _find(view, Secret, ref, "secret")


def config(view: View, ref: str) -> Config:
    """The config."""
    return _find(view, Config, ref, "config")


def task_name(task: Task) -> str:
    """A task's full name: ``service.slot.id``, with the node's id for the slot of a global service's task."""
    if task.name:
        return task.name
    service_name = task.internal.service_name if task.internal is not None else ""
    return f"{service_name or task.service_id}.{task.slot or task.node_id}.{task.id}"


def _find(view: View, kind: type[T], ref: str, noun: str, named: Callable[[], list[T]] | None = None) -> T:
    found = view.get(kind, ref)
    if found is not None:
        return found
    matches = view.find(kind, "name", ref) if named is None else named()
    if not matches and ref:
        matches = [obj for obj in view.all(kind) if obj.id.startswith(ref)]
    if not matches:
        raise NotFound(f"{noun} {ref} not found")
    if len(matches) > 1:
        raise InvalidArgument(f"{noun} {ref} is ambiguous ({len(matches)} matches found)")
    return matches[0]
