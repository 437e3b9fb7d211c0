"""Containers' doors to the routing mesh: rules in their namespaces that lead answers back the way questions came."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from enxame.engine.networks.registry import ActiveNetwork
from enxame.model.container import EndpointSettings
from enxame.network import answer_rules, rtnetlink
from enxame.network.answer_rules import ROUTING_MARK, Door
from enxame.network.dataplane import Attachment, table_of
from enxame.network.namespace_rules import Change, transaction_of

#: A container's networks with its links to them.
Places = Sequence[tuple[ActiveNetwork, EndpointSettings, Attachment]]


class Doors:
    """Which containers have one, and how it is made."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Door, int]] = {}

    def connected(self, container_id: str, path: Path, places: Places) -> list[Change]:
        """What a container needs that is on these networks now."""
        before, now = self._known.get(container_id), _door(places)
        if before == now:
            return []
        messages = answer_rules.remove() if before is not None else []
        routes = [rtnetlink.delete_mark_rule(ROUTING_MARK, before[1])] if _is_led(before) and before is not None else []
        if now is None:
            del self._known[container_id]
        else:
            self._known[container_id] = now
            messages += answer_rules.install(now[0])
            if _is_led(now):
                routes.append(rtnetlink.add_mark_rule(ROUTING_MARK, now[1]))
        return [Change(path, transaction_of(messages), routes, tracks=now is not None)]

    def found(self, container_id: str, path: Path, places: Places) -> list[Change]:
        """What a container needs that an earlier daemon connected; rules may be there."""
        now = _door(places)
        if now is None:
            return []
        self._known[container_id] = now
        routes = [rtnetlink.add_mark_rule(ROUTING_MARK, now[1])] if _is_led(now) else []
        return [
            Change(path, transaction_of([*answer_rules.remove(), *answer_rules.install(now[0])]), routes, tracks=True)
        ]

    def left(self, container_id: str) -> None:
        """A container is gone. Idempotent."""
        self._known.pop(container_id, None)


def _door(places: Places) -> tuple[Door, int] | None:
    """The door, and the routing table of its link."""
    mesh = next((item for network, _, item in places if network.resource.ingress), None)
    if mesh is None:
        return None
    exit_ = next((item for _, _, item in places if item.default), None)
    other = exit_ is not None and exit_ is not mesh
    return Door(mesh.inner, exit_.address.ip if other and exit_ is not None else None), table_of(mesh)


def _is_led(known: tuple[Door, int] | None) -> bool:
    return known is not None and known[0].datagrams_to is not None
