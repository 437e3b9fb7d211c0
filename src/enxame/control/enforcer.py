"""Evicts tasks from nodes that no longer fit them: labels changed, resources shrank."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from enxame.control.board import Board, is_wanted
from enxame.control.constraint import matches, parse
from enxame.control.restart import node_is_gone
from enxame.errors import InvalidArgument
from enxame.model.node import Node
from enxame.model.task import Task, TaskState

REJECTED_BY_ENFORCER: Final = "task rejected by constraint enforcer"
NOT_FITTING: Final = "assigned node no longer meets constraints"


def enforce(board: Board, node: Node) -> None:
    """Reject the node's tasks whose constraints or reservations it does not meet any more."""
    if node_is_gone(node):
        return
    cpus, memory = node.description.resources.nano_cpus, node.description.resources.memory_bytes
    for task in list(board.on_node.get(node.id, {}).values()):
        state = task.status.state
        if state.is_terminal or state < TaskState.ASSIGNED or not is_wanted(task):
            continue
        resources = task.spec.resources
        reserved = resources.reservations if resources is not None else None
        fits = _meets_constraints(board, task, node)
        if fits and reserved is not None and (reserved.nano_cpus or reserved.memory_bytes):
            fits = reserved.nano_cpus <= cpus and reserved.memory_bytes <= memory
            if fits:
                cpus -= reserved.nano_cpus
                memory -= reserved.memory_bytes
        if not fits:
            status = replace(
                task.status,
                timestamp=board.now.wall,
                state=TaskState.REJECTED,
                message=REJECTED_BY_ENFORCER,
                err=NOT_FITTING,
            )
            board.change(task, status=status)


def _meets_constraints(board: Board, task: Task, node: Node) -> bool:
    # The service's constraints, not the task's: they may have changed without making a new task.
    service = board.service(task.service_id)
    placement = (service.spec.task_template if service is not None else task.spec).placement
    if placement is None or not placement.constraints:
        return True
    try:
        return matches(parse(placement.constraints), node)
    except InvalidArgument:
        return True
