"""Keeps one task of a global service on every node that is up, active and satisfies its constraints.

A paused node keeps its task but gets none; a drained or lost one loses it.
"""

from __future__ import annotations

from enxame.control.board import Board, is_wanted
from enxame.control.constraint import Constraint, matches, parse
from enxame.control.restart import RestartSupervisor, node_is_gone
from enxame.errors import InvalidArgument
from enxame.model.node import Node
from enxame.model.service import Service
from enxame.model.task import TaskState


def reconcile(board: Board, restarts: RestartSupervisor, service: Service) -> bool:
    """Compare all nodes with the service's tasks. False: the pass is full and some nodes are left."""
    constraints = constraints_of(service)
    for node in board.nodes():
        if board.full:
            return False
        reconcile_node(board, restarts, service, node, constraints)
    for key in list(board.slots.get(service.id, {})):
        if isinstance(key, str) and board.node(key) is None:
            leave_node(board, service, key)
    return True


def reconcile_node(
    board: Board, restarts: RestartSupervisor, service: Service, node: Node, constraints: tuple[Constraint, ...] | None
) -> None:
    """Compare one node. ``constraints`` is None when they cannot be read: they then fit nowhere."""
    slot = (service.id, node.id)
    if node_is_gone(node) or constraints is None or not matches(constraints, node):
        leave_node(board, service, node.id)
        return
    if node.spec.availability == "pause" or node.status.state != "ready":
        return
    if not restarts.updatable(board, slot, service):
        restarts.add(board, slot, service)


def constraints_of(service: Service) -> tuple[Constraint, ...] | None:
    """The service's constraints; None when they are malformed."""
    placement = service.spec.task_template.placement
    try:
        return parse(placement.constraints if placement is not None else ())
    except InvalidArgument:
        return None


def leave_node(board: Board, service: Service, node_id: str) -> None:
    """Stop the service's task on a node."""
    for task in board.in_slot((service.id, node_id)):
        if is_wanted(task) and not task.status.state.is_terminal:
            board.change(task, desired_state=TaskState.SHUTDOWN)
