"""What users see in ``events`` of the swarm's changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from enxame.model.base import Meta
from enxame.model.network import Network
from enxame.model.node import Node
from enxame.model.secret import Config, Secret
from enxame.model.service import Service
from enxame.store.interface import Action, Event

__all__ = ["EventMessage", "event_messages"]


class EventMessage(NamedTuple):
    """One event: ``type`` node|service|network|secret|config, ``action`` create|update|remove, the object's id."""

    type: str
    action: str
    id: str
    attributes: dict[str, str]


_ACTIONS = {Action.CREATE: "create", Action.UPDATE: "update", Action.DELETE: "remove"}


def event_messages(event: Event) -> Sequence[EventMessage]:
    """The messages of a change; none for tasks and the cluster object, which users' events do not show."""
    obj = event.object
    old = event.old if event.action is Action.UPDATE else None
    attributes = _attributes(obj, old)
    if attributes is None:
        return ()
    return (EventMessage(type(obj).__name__.lower(), _ACTIONS[event.action], obj.id, attributes),)


def _attributes(obj: Meta, old: Meta | None) -> dict[str, str] | None:
    if isinstance(obj, Node):
        return _node_attributes(obj, old if isinstance(old, Node) else None)
    if isinstance(obj, Service):
        return _service_attributes(obj, old if isinstance(old, Service) else None)
    if isinstance(obj, Network | Secret | Config):
        return {"name": obj.spec.name}
    return None


def _node_attributes(node: Node, old: Node | None) -> dict[str, str]:
    attributes = {"name": node.spec.name or node.description.hostname}
    if old is None:
        return attributes
    _note(attributes, "availability", old.spec.availability, node.spec.availability)
    _note(attributes, "role", old.spec.role, node.spec.role)
    _note(attributes, "state", old.status.state, node.status.state)
    if node.manager_status is not None and old.manager_status is not None:
        _note(attributes, "leader", str(old.manager_status.leader).lower(), str(node.manager_status.leader).lower())
        _note(attributes, "reachability", old.manager_status.reachability, node.manager_status.reachability)
    return attributes


def _service_attributes(service: Service, old: Service | None) -> dict[str, str]:
    attributes = {"name": service.spec.name}
    if old is None:
        return attributes
    _note(attributes, "image", _image(old), _image(service))
    _note(attributes, "replicas", _replicas(old), _replicas(service))
    if service.update_status is not None:
        before = old.update_status.state if old.update_status is not None else ""
        _note(attributes, "updatestate", before, service.update_status.state)
        if not before:
            attributes.pop("updatestate.old", None)
    return attributes


def _note(attributes: dict[str, str], name: str, old: str, new: str) -> None:
    if old != new:
        attributes[f"{name}.old"] = old
        attributes[f"{name}.new"] = new


def _image(service: Service) -> str:
    container = service.spec.task_template.container_spec
    return container.image if container is not None else ""


def _replicas(service: Service) -> str:
    replicated = service.spec.mode.replicated
    return "" if replicated is None else str(1 if replicated.replicas is None else replicated.replicas)
