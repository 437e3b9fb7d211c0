"""What a node's coming, going, draining and changing means for its tasks."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from enxame.control import enforcer, global_, jobs
from enxame.control.board import Board
from enxame.control.restart import RestartSupervisor
from enxame.model.attachment import Attachment
from enxame.model.node import Node
from enxame.model.service import Service
from enxame.model.task import TaskState

#: Tasks of a node that has been down for so long are given up as orphaned: seconds.
ORPHAN_AFTER: Final = 24 * 3600.0


class NodeKeeper:
    """Remembers since when nodes have been down; a new leader gives every node its full time."""

    def __init__(self) -> None:
        self._down_since: dict[str, float] = {}

    def review(self, board: Board, restarts: RestartSupervisor) -> None:
        """Look at the pass's dirty nodes."""
        if not board.dirty_nodes:
            return
        globals_ = [service for service in board.tx.all(Service) if _is_global(service)]
        globals_.sort(key=lambda service: service.id)
        for node_id in board.dirty_nodes:
            node = board.node(node_id)
            self._watch(board, node_id, node)
            if node is not None:
                enforcer.enforce(board, node)
            for task in board.on_node.get(node_id, {}).values():
                board.dirty_slots[board.slot_of(task)] = None
            for service in globals_:
                if node is not None and service.spec.mode.global_job is not None:
                    jobs.reconcile_node(board, restarts, service, node, global_.constraints_of(service))
                elif node is not None:
                    global_.reconcile_node(board, restarts, service, node, global_.constraints_of(service))
                else:
                    global_.leave_node(board, service, node_id)

    def _watch(self, board: Board, node_id: str, node: Node | None) -> None:
        if node is None:
            self._down_since.pop(node_id, None)
            self._orphan(board, node_id)
        elif node.status.state != "down":
            self._down_since.pop(node_id, None)
        else:
            since = self._down_since.setdefault(node_id, board.now.mono)
            if board.now.mono >= since + ORPHAN_AFTER:
                self._orphan(board, node_id)
            else:
                board.wake_at(since + ORPHAN_AFTER, ("node", node_id, ""))

    @staticmethod
    def _orphan(board: Board, node_id: str) -> None:
        for attachment in board.tx.find(Attachment, "node_id", node_id):
            board.tx.delete(Attachment, attachment.id)
            board.dirty_attachments[attachment.id] = None
        for task in list(board.on_node.get(node_id, {}).values()):
            if not task.status.state.is_terminal and task.status.state >= TaskState.ASSIGNED:
                status = replace(task.status, timestamp=board.now.wall, state=TaskState.ORPHANED)
                board.change(task, status=status)


def _is_global(service: Service) -> bool:
    return service.spec.mode.global_ is not None or service.spec.mode.global_job is not None
