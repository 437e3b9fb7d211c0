"""The routing mesh's table of a node: which published port is answered by which running tasks."""

from __future__ import annotations

from collections.abc import Iterable

from enxame.model.dispatch import IngressBackend, IngressPort
from enxame.model.service import PortConfig, Service
from enxame.model.task import Task, TaskState
from enxame.store.interface import Event, View


class IngressTable:
    """``ports`` is the whole table, in a stable order; a new list whenever it changes.

    A task takes part while it runs, is meant to run and was made with that port: a stopping one leaves at once.
    With a ``node_id`` only that node's tasks take part: packets do not cross from node to node yet.
    """

    def __init__(self, view: View, node_id: str = "") -> None:
        self._node_id = node_id
        self.ports: list[IngressPort] = []
        self._running: dict[str, dict[str, tuple[str, list[PortConfig]]]] = {}
        self._of_service: dict[str, list[IngressPort]] = {}
        for task in view.find(Task, "node_id", node_id) if node_id else view.all(Task):
            self._see_task(view, task.id, task.service_id)
        for service in view.all(Service):
            self._render(view, service.id)
        self._collect()

    def apply(self, view: View, events: Iterable[Event]) -> bool:
        """Take changes in; True when ``ports`` changed."""
        dirty: dict[str, None] = {}
        for event in events:
            obj = event.object
            if isinstance(obj, Task):
                if self._see_task(view, obj.id, obj.service_id):
                    dirty[obj.service_id] = None
            elif isinstance(obj, Service):
                dirty[obj.id] = None
        changed = False
        for service_id in dirty:
            changed |= self._render(view, service_id)
        if changed:
            self._collect()
        return changed

    def _see_task(self, view: View, task_id: str, service_id: str) -> bool:
        backends = self._running.get(service_id, {})
        task = view.get(Task, task_id)
        mine = task is not None and self._node_id in ("", task.node_id)
        before, now = backends.get(task_id), _backend(task) if mine else None
        if before == now:
            return False
        if now is not None:
            self._running.setdefault(service_id, {})[task_id] = now
        else:
            del backends[task_id]
            if not backends:
                del self._running[service_id]
        return True

    def _render(self, view: View, service_id: str) -> bool:
        service = view.get(Service, service_id)
        running = self._running.get(service_id, {})
        ports = [
            IngressPort(
                service_id=service_id,
                port=port,
                backends=[
                    IngressBackend(task_id=task_id, ip=ip, port=port.target_port)
                    for task_id, (ip, mine) in sorted(running.items())
                    if any(_same_target(port, other) for other in mine)
                ],
            )
            for port in (service.endpoint.ports if service is not None else ())
            if port.publish_mode == "ingress" and port.published_port
        ]
        if ports == self._of_service.get(service_id, []):
            return False
        if ports:
            self._of_service[service_id] = ports
        else:
            del self._of_service[service_id]
        return True

    def _collect(self) -> None:
        entries = [entry for ports in self._of_service.values() for entry in ports]
        self.ports = sorted(entries, key=lambda entry: (entry.port.published_port, entry.port.protocol))


def _backend(task: Task | None) -> tuple[str, list[PortConfig]] | None:
    if (
        task is None
        or task.status.state is not TaskState.RUNNING
        or task.desired_state is not TaskState.RUNNING
        or task.internal is None
    ):
        return None
    for attachment in task.networks_attachments:
        if attachment.network.spec.ingress and attachment.addresses:
            return attachment.addresses[0].partition("/")[0], task.internal.ports
    return None


def _same_target(port: PortConfig, other: PortConfig) -> bool:
    return (port.published_port, port.protocol, port.target_port) == (
        other.published_port,
        other.protocol,
        other.target_port,
    )
