"""Use cases around nodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from msgspec.structs import replace

from enxame.errors import InvalidArgument, rpc_error
from enxame.manager import lookup
from enxame.manager.matching import matches_head
from enxame.model.base import ObjectVersion
from enxame.model.filters import Filters
from enxame.model.node import Node, NodeSpec
from enxame.store.interface import Tx
from enxame.store.store import Store

__all__ = ["NodeControl", "no_trouble"]

_ROLES: Final = ("worker", "manager")
_AVAILABILITIES: Final = ("active", "pause", "drain")
_MEMBERSHIPS: Final = ("pending", "accepted")


async def no_trouble() -> str:
    """All is well."""
    return ""


class NodeControl:
    """``/nodes``. ``node_id`` is this node's: what ``self`` means; ``manager_trouble`` says why a node cannot become a
    manager, ``own_trouble`` why this one cannot have others beside it; both empty when all is well.
    """

    def __init__(
        self,
        store: Store,
        node_id: str = "",
        *,
        manager_trouble: Callable[[str], str] = lambda _node_id: "",
        own_trouble: Callable[[], Awaitable[str]] = no_trouble,
    ) -> None:
        self._store = store
        self._node_id = node_id
        self._manager_trouble = manager_trouble
        self._own_trouble = own_trouble

    def list(self, filters: Filters) -> Sequence[Node]:
        """Nodes that match ``id``, ``name``, ``label`` (the engine's), ``node.label``, ``role``, ``membership``."""
        roles = _known(filters, "role", _ROLES)
        # Every node with a certificate is accepted.
        if (memberships := _known(filters, "membership", _MEMBERSHIPS)) and "accepted" not in memberships:
            return []
        return [
            node
            for node in self._store.view.all(Node)
            if matches_head(filters, node.id, node.description.hostname, node.description.engine.labels)
            and filters.labels_match(node.spec.labels, "node.label")
            and (not roles or node.spec.role in roles)
        ]

    def get(self, ref: str) -> Node:
        """The node with this id, host name or beginning of an id; ``self`` is this one."""
        return lookup.node(self._store.view, self._node_id if ref == "self" and self._node_id else ref)

    async def update(self, ref: str, version: int, spec: NodeSpec) -> None:
        """Replace a node's spec.

        Raises:
            NotFound, InvalidArgument: no such node, a bad spec, demoting the last manager.
            EnxameError: ``update out of sequence``.
        """
        role, availability = spec.role.lower(), spec.availability.lower()
        if role not in _ROLES:
            raise InvalidArgument(f'invalid Role: "{spec.role}"')
        if availability not in _AVAILABILITIES:
            raise InvalidArgument(f'invalid Availability: "{spec.availability}"')
        known = self.get(ref)
        node_id = known.id
        if role == "manager" and known.spec.role != role and (trouble := await self._own_trouble()):
            raise rpc_error("FailedPrecondition", f"the swarm cannot have another manager: {trouble}")

        def change(tx: Tx) -> None:
            node = lookup.node(tx, node_id)
            if node.spec.role == "manager" and role == "worker":
                _check_demotion(tx, node)
            elif node.spec.role != role and (trouble := self._manager_trouble(node.id)):
                raise rpc_error("FailedPrecondition", f"node {node.id} cannot become a manager: {trouble}")
            wanted = replace(spec, role=role, availability=availability)
            tx.update(replace(node, version=ObjectVersion(index=version), spec=wanted))

        await self._store.update(change)

    async def remove(self, ref: str, *, force: bool = False) -> None:
        """Forget a node. Managers must be demoted first, unless they have lost their part in a recovery; nodes that are
        up only go by force.
        """
        node_id = self.get(ref).id

        def change(tx: Tx) -> None:
            node = lookup.node(tx, node_id)
            lost = node.manager_status is None and node.status.state == "down"
            if node.manager_status is not None or (node.spec.role == "manager" and not lost):
                raise rpc_error(
                    "FailedPrecondition",
                    f"node {node.id} is a cluster manager and is a member of the raft cluster. It must be demoted to "
                    "worker before removal",
                )
            if not force and node.status.state == "ready":
                raise rpc_error("FailedPrecondition", f"node {node.id} is not down and can't be removed")
            tx.delete(Node, node.id)

        await self._store.update(change)


def _check_demotion(tx: Tx, node: Node) -> None:
    if node.manager_status is None and node.status.state == "down":
        return  # it has no part in the managers' agreement
    managers = [
        other
        for other in tx.all(Node)
        if other.spec.role == "manager" and (other.manager_status is not None or other.status.state != "down")
    ]
    if len(managers) == 1:
        raise rpc_error("FailedPrecondition", "attempting to demote the last manager of the swarm")
    if node.manager_status is None or node.manager_status.reachability != "reachable":
        # Those that agree now still do without it, more easily than before.
        return
    reachable = [
        other
        for other in managers
        if other.id != node.id and other.manager_status is not None and other.manager_status.reachability == "reachable"
    ]
    if len(reachable) < (len(managers) - 1) // 2 + 1:
        raise rpc_error(
            "FailedPrecondition", "can't remove member from the raft: this would result in a loss of quorum"
        )


def _known(filters: Filters, name: str, words: Sequence[str]) -> frozenset[str]:
    given = frozenset(value.lower() for value in filters.get(name))
    for value in sorted(given):
        if value not in words:
            raise InvalidArgument(f"invalid filter '{name}=[{value}]'")
    return given
