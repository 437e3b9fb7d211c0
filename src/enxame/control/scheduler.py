"""Chooses the nodes of tasks: filters say where a task can run, spread and load where it is best.

Running tasks are never moved. Tasks of one service and spec version are placed together. What finds no node is told why
and waits until a node or what runs on it changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec.structs import replace

from enxame.control.board import Board
from enxame.control.filters import Pipeline
from enxame.control.node_load import NodeLoad, SpecKey, reservation
from enxame.control.restart import spec_version
from enxame.control.spread import Branch, Leaf, Load, build, is_spread
from enxame.model.node import Node
from enxame.model.task import Task, TaskState, TaskStatus

#: Tasks that are placed alike: service, spec version and the node they are tied to ("" for none).
_GroupKey: TypeAlias = tuple[str, int, str]

ASSIGNED_MESSAGE = "scheduler assigned task to node"
CONFIRMED_MESSAGE = "scheduler confirmed task can run on preassigned node"


class Scheduler:
    """Knows the load of every node. ``rng`` (0 to 1) breaks ties between equal nodes."""

    def __init__(self, rng: Callable[[], float]) -> None:
        self._rng = rng
        self._loads: dict[str, NodeLoad] = {}
        self._node_of: dict[str, str] = {}
        self._waiting: dict[_GroupKey, dict[str, None]] = {}
        self._group_of: dict[str, _GroupKey] = {}
        self._ended: dict[str, None] = {}

    def start(self, board: Board) -> None:
        """Derive the loads from nodes and tasks."""
        self.__init__(self._rng)  # type: ignore[misc]
        for node in board.nodes():
            self._loads[node.id] = NodeLoad(node, self._rng())

    def schedule(self, board: Board) -> None:
        """Place what waits, as far as the pass changed something about it."""
        changed_nodes = self._see_nodes(board)
        fresh: dict[_GroupKey, None] = {}
        room: dict[str, NodeLoad] = {}
        for task_id in board.changed:
            load = self._see_task(board, task_id, fresh)
            if load is not None:
                room[load.node.id] = load
        todo = [key for key in self._waiting if changed_nodes or key in fresh or self._may_fit(board, key, room)]
        # Tied tasks first: they have no choice.
        for key in sorted(todo, key=lambda key: not key[2]):
            waiting = self._waiting.get(key)
            if waiting:
                self._place_group(board, key, [board.tasks[task_id] for task_id in waiting])

    def ledger(self) -> dict[str, object]:
        """What every node has left, and who waits."""
        entries: dict[str, object] = {f"load of {node_id}": load.summary() for node_id, load in self._loads.items()}
        return {**entries, "waiting": sorted(self._group_of), "groups": sorted(map(str, self._waiting))}

    def _may_fit(self, board: Board, key: _GroupKey, room: dict[str, NodeLoad]) -> bool:
        """Whether a group that found no place finds one on the nodes where something ended since."""
        if key[2]:
            return key[2] in room
        if not room:
            return False
        pipeline = Pipeline(board.tasks[next(iter(self._waiting[key]))])
        return any(map(pipeline.accepts, room.values()))

    # Seeing

    def _see_nodes(self, board: Board) -> bool:
        for node_id in board.dirty_nodes:
            node = board.node(node_id)
            load = self._loads.get(node_id)
            if node is None:
                self._loads.pop(node_id, None)
            elif load is None:
                self._add_node(board, node)
            else:
                load.change(node)
        return bool(board.dirty_nodes)

    def _add_node(self, board: Board, node: Node) -> None:
        load = self._loads[node.id] = NodeLoad(node, self._rng())
        for task in board.on_node.get(node.id, {}).values():
            if self._consumes(task):
                load.put(task)
                self._node_of[task.id] = node.id

    def _see_task(self, board: Board, task_id: str, fresh: dict[_GroupKey, None]) -> NodeLoad | None:
        """Account for a changed task; the node that it gave something back on."""
        task = board.tasks.get(task_id)
        if task is None or not self._consumes(task):
            freed = self._leave(task_id)
            if task is None:
                self._ended.pop(task_id, None)
            elif task.status.state in (TaskState.FAILED, TaskState.REJECTED):
                self._note_failure(board, task)
        else:
            freed = None
            load = self._loads.get(task.node_id)
            if load is not None:
                before = load.tasks.get(task_id)
                if before is not None and before.desired_state is not task.desired_state:
                    freed = load
                load.put(task)
                self._node_of[task_id] = task.node_id
        group = self._group_of.pop(task_id, None)
        if group is not None:
            self._unwait(group, task_id)
        if task is not None and self._is_waiting(task):
            key = (task.service_id, spec_version(task), task.node_id)
            self._waiting.setdefault(key, {})[task_id] = None
            self._group_of[task_id] = key
            fresh[key] = None
        return freed

    def _leave(self, task_id: str) -> NodeLoad | None:
        load = self._loads.get(self._node_of.pop(task_id, ""))
        return load if load is not None and load.remove(task_id) else None

    def _note_failure(self, board: Board, task: Task) -> None:
        load = self._loads.get(task.node_id)
        if load is not None and task.id not in self._ended:
            self._ended[task.id] = None
            load.note_failure(task, board.now.mono)

    def _unwait(self, group: _GroupKey, task_id: str) -> None:
        waiting = self._waiting.get(group)
        if waiting is not None:
            waiting.pop(task_id, None)
            if not waiting:
                del self._waiting[group]

    @staticmethod
    def _consumes(task: Task) -> bool:
        state = task.status.state
        return bool(task.node_id) and state >= TaskState.ASSIGNED and not state.is_terminal

    @staticmethod
    def _is_waiting(task: Task) -> bool:
        return task.status.state is TaskState.PENDING and task.desired_state <= TaskState.COMPLETE

    # Placing

    def _place_group(self, board: Board, key: _GroupKey, tasks: list[Task]) -> None:
        pipeline = Pipeline(tasks[0])
        if key[2]:
            self._confirm(board, key, tasks, pipeline)
            return
        spec: SpecKey = (key[0], key[1])
        now = board.now.mono

        def weigh(load: NodeLoad) -> Load:
            return load.weight(spec, now)

        placement = tasks[0].spec.placement
        descriptors = [
            preference.spread.spread_descriptor
            for preference in (placement.preferences if placement is not None else ())
            if preference.spread is not None and is_spread(preference.spread.spread_descriptor)
        ]
        loads = list(self._loads.values())
        tree: Branch | Leaf
        if descriptors:
            tree = build(loads, pipeline.accepts, weigh, key[0], descriptors)
        else:
            tree = Leaf(filter(pipeline.accepts, loads), weigh)
        still_fits = pipeline.still_fits
        for index, task in enumerate(tasks):
            load = tree.pick()
            if load is None:
                self._explain(board, tasks[index:])
                return
            self._assign(board, key, task, load, ASSIGNED_MESSAGE)
            if still_fits is None or still_fits(load):
                tree.put_back(load)

    def _confirm(self, board: Board, key: _GroupKey, tasks: list[Task], pipeline: Pipeline) -> None:
        load = self._loads.get(key[2])
        for task in tasks:
            if load is not None and pipeline.accepts(load):
                self._assign(board, key, task, load, CONFIRMED_MESSAGE)
            else:
                self._tell(board, task, pipeline.explain() if load is not None else "assigned node no longer exists")

    def _assign(self, board: Board, key: _GroupKey, task: Task, load: NodeLoad, message: str) -> None:
        generic = reservation(task).generic_resources
        current = board.change(
            task,
            node_id=load.node.id,
            assigned_generic_resources=load.generic.claim(generic) if generic else [],
            status=TaskStatus(timestamp=board.now.wall, state=TaskState.ASSIGNED, message=message),
        )
        if generic:
            load.generic.give_back(current.assigned_generic_resources)
        load.put(current)
        self._node_of[task.id] = load.node.id
        self._group_of.pop(task.id, None)
        self._unwait(key, task.id)

    def _explain(self, board: Board, tasks: list[Task]) -> None:
        # Asked anew: the tasks just placed may be why there is no room.
        pipeline = Pipeline(tasks[0])
        for load in self._loads.values():
            pipeline.accepts(load)
        reason = pipeline.explain()
        for task in tasks:
            self._tell(board, task, f"no suitable node ({reason})" if reason else "no suitable node")

    @staticmethod
    def _tell(board: Board, task: Task, reason: str) -> None:
        if task.status.err != reason:
            board.change(task, status=replace(task.status, timestamp=board.now.wall, err=reason))
