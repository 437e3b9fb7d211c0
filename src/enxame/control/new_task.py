"""Making tasks from a service, and telling whether a task still is what its service asks for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from msgspec.structs import replace

from enxame.control.board import Board, SlotKey
from enxame.control.constraint import matches, parse
from enxame.errors import InvalidArgument
from enxame.model.cluster import Cluster
from enxame.model.node import Node
from enxame.model.service import Endpoint, Placement, Service, TaskSpec
from enxame.model.task import Task, TaskInternal, TaskState, TaskStatus

_MOMENT: Final = timedelta(microseconds=1)


def new_task(board: Board, task_id: str, service: Service, key: SlotKey, desired: TaskState) -> Task:
    """A fresh task (NEW) for a slot; a node id as ``key`` ties it to that node."""
    internal = service.internal
    # A slot's tasks are known apart by their age, also after people's clock was set back.
    before = max((task.created_at for task in board.in_slot((service.id, key))), default=board.now.wall)
    return Task(
        id=task_id,
        created_at=board.now.wall if before <= board.now.wall else before + _MOMENT,
        updated_at=board.now.wall,
        spec=task_spec(service, board.cluster()),
        service_id=service.id,
        slot=key if isinstance(key, int) else 0,
        node_id=key if isinstance(key, str) else "",
        status=TaskStatus(timestamp=board.now.wall, state=TaskState.NEW, message="created"),
        desired_state=desired,
        job_iteration=service.job_status.job_iteration if service.job_status is not None else None,
        internal=TaskInternal(
            service_name=service.spec.name,
            service_labels=service.spec.labels,
            spec_version=internal.spec_version if internal is not None else 0,
            registry_auth=internal.registry_auth if internal is not None else "",
        ),
    )


def task_spec(service: Service, cluster: Cluster | None) -> TaskSpec:
    """The template with what it leaves to the service and to the swarm's defaults."""
    spec = service.spec.task_template
    if not spec.networks and service.spec.networks:
        spec = replace(spec, networks=service.spec.networks)
    if spec.log_driver is None and cluster is not None and cluster.spec.task_defaults.log_driver is not None:
        spec = replace(spec, log_driver=cluster.spec.task_defaults.log_driver)
    return spec


def is_dirty(board: Board, service: Service, task: Task) -> bool:
    """The task must be replaced to become what the service asks for (see :func:`differs`)."""
    return differs(service, task, board.cluster, lambda: board.node(task.node_id) if task.node_id else None)


def differs(
    service: Service, task: Task, cluster: Callable[[], Cluster | None], node: Callable[[], Node | None]
) -> bool:
    """The task is not what the service asks for. Constraints that changed alone and still let the task stay on its
    ``node`` do not count. ``cluster`` and ``node`` are only asked for when they matter: mostly they do not.
    """
    internal = task.internal
    if internal is None or service.internal is None or internal.spec_version == service.internal.spec_version:
        return False
    wanted = task_spec(service, cluster())
    if _without_constraints(wanted) != _without_constraints(task.spec):
        return True
    if wanted != task.spec and not _may_stay(wanted, node()):
        return True
    if task.status.state is TaskState.NEW:
        return False
    endpoint = service.endpoint
    return internal.ports != endpoint.ports or internal.virtual_ips != vips_by_network(endpoint)


def vips_by_network(endpoint: Endpoint) -> dict[str, str]:
    """A service's first virtual address on each network. Of IPv4: that IPv6 came to a network restarts no task."""
    found: dict[str, str] = {}
    for vip in endpoint.virtual_ips:
        if vip.addr:
            found.setdefault(vip.network_id, vip.addr)
    return found


def _without_constraints(spec: TaskSpec) -> TaskSpec:
    placement = spec.placement or Placement()
    return replace(spec, placement=replace(placement, constraints=[]) if placement.constraints else placement)


def _may_stay(spec: TaskSpec, node: Node | None) -> bool:
    if node is None:
        return False
    try:
        return matches(parse(spec.placement.constraints if spec.placement is not None else []), node)
    except InvalidArgument:
        return False
