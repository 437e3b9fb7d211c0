"""Spread preferences: equal shares for each value of a label, level by level; inside, the least loaded node first."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from enxame.control.node_load import NodeLoad
from enxame.model.node import Node

#: How much a node is to be avoided: compares less for better ones.
Load: TypeAlias = tuple[int, int, int, float]

_NODE_LABEL: Final = "node.labels."
_ENGINE_LABEL: Final = "engine.labels."


def label_of(node: Node, descriptor: str) -> str:
    """The node's value of ``node.labels.X`` or ``engine.labels.X``; empty without."""
    if descriptor.lower().startswith(_NODE_LABEL):
        return node.spec.labels.get(descriptor[len(_NODE_LABEL) :], "")
    if descriptor.lower().startswith(_ENGINE_LABEL):
        return node.description.engine.labels.get(descriptor[len(_ENGINE_LABEL) :], "")
    return ""


def is_spread(descriptor: str) -> bool:
    """Whether the descriptor names a label; others are ignored."""
    return descriptor.lower().startswith((_NODE_LABEL, _ENGINE_LABEL))


class Leaf:
    """Nodes without further preference, best first."""

    def __init__(self, loads: Iterable[NodeLoad], weigh: Callable[[NodeLoad], Load], tasks: int = 0) -> None:
        self.tasks = tasks
        self._weigh = weigh
        self._heap = [(weigh(load), load.node.id, load) for load in loads]
        heapq.heapify(self._heap)

    def pick(self) -> NodeLoad | None:
        """The best node; it must be given back with :meth:`put_back` if it can take more."""
        if not self._heap:
            return None
        self.tasks += 1
        return heapq.heappop(self._heap)[2]

    def put_back(self, load: NodeLoad) -> None:
        """A picked node, weighed anew."""
        heapq.heappush(self._heap, (self._weigh(load), load.node.id, load))


class Branch:
    """Splits nodes by a label; the part with the fewest tasks of the service comes first."""

    def __init__(self, parts: dict[str, Branch | Leaf]) -> None:
        self.tasks: int = sum(part.tasks for part in parts.values())
        self._parts: list[Branch | Leaf] = [parts[value] for value in sorted(parts)]
        self._picked_from: dict[str, Branch | Leaf] = {}

    def pick(self) -> NodeLoad | None:
        """The best node of the part with the fewest tasks that has one."""
        while self._parts:
            part = min(self._parts, key=lambda part: part.tasks)
            load = part.pick()
            if load is not None:
                self.tasks += 1
                self._picked_from[load.node.id] = part
                return load
            self._parts.remove(part)
        return None

    def put_back(self, load: NodeLoad) -> None:
        """A picked node, weighed anew."""
        part = self._picked_from[load.node.id]
        part.put_back(load)


def build(
    loads: Sequence[NodeLoad],
    fitting: Callable[[NodeLoad], bool],
    weigh: Callable[[NodeLoad], Load],
    service_id: str,
    descriptors: Sequence[str],
) -> Branch | Leaf:
    """The tree of all nodes; only fitting ones can be picked, but tasks on all of them count."""
    if not descriptors:
        tasks = sum(load.by_service.get(service_id, 0) for load in loads)
        return Leaf([load for load in loads if fitting(load)], weigh, tasks)
    parts: dict[str, list[NodeLoad]] = {}
    for load in loads:
        parts.setdefault(label_of(load.node, descriptors[0]), []).append(load)
    return Branch({value: build(part, fitting, weigh, service_id, descriptors[1:]) for value, part in parts.items()})
