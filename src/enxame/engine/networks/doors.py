"""Containers' doors to the routing mesh: rules in their namespaces that lead answers back the way questions came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enxame.engine.networks.registry import ActiveNetwork
from enxame.model.container import EndpointSettings
from enxame.network import answer_rules, rtnetlink
from enxame.network.answer_rules import ROUTING_MARK, Door
from enxame.network.attachments import Attachment, table_of
from enxame.network.namespace_rules import Change, transaction_of
from enxame.network.netlink import Request
from enxame.network.rtnetlink import Address

#: A container's networks with its links to them.
Places = Sequence[tuple[ActiveNetwork, EndpointSettings, Attachment]]


@dataclass(frozen=True, slots=True)
class _Way:
    """A door, the routing table of its link, and the versions of IP whose marked packets look there."""

    door: Door
    table: int

    @property
    def led(self) -> list[int]:
        return [address.version for address in self.door.datagrams_to]


class Doors:
    """Which containers have one, and how it is made."""

    def __init__(self) -> None:
        self._known: dict[str, _Way] = {}

    def connected(self, container_id: str, path: Path, places: Places) -> list[Change]:
        """What a container needs that is on these networks now."""
        before, now = self._known.get(container_id), _way(places)
        if before == now:
            return []
        messages = answer_rules.remove() if before is not None else []
        routes: list[Request] = []
        if before is not None:
            routes += [rtnetlink.delete_mark_rule(ROUTING_MARK, before.table, version) for version in before.led]
        if now is None:
            del self._known[container_id]
        else:
            self._known[container_id] = now
            messages += answer_rules.install(now.door)
            routes += _led(now)
        return [Change(path, transaction_of(messages), routes, tracks=now is not None)]

    def found(self, container_id: str, path: Path, places: Places) -> list[Change]:
        """What a container needs that an earlier daemon connected; rules may be there."""
        now = _way(places)
        if now is None:
            return []
        self._known[container_id] = now
        messages = [*answer_rules.remove(), *answer_rules.install(now.door)]
        return [Change(path, transaction_of(messages), _led(now), tracks=True)]

    def left(self, container_id: str) -> None:
        """A container is gone. Idempotent."""
        self._known.pop(container_id, None)


def _way(places: Places) -> _Way | None:
    links = [item for _, _, item in places]
    mesh = next((item for network, _, item in places if network.resource.ingress), None)
    if mesh is None:
        return None
    exit_ = next((item for item in links if item.default), mesh)
    exit6 = next((item for item in links if item.default6), mesh)
    others: list[Address] = [exit_.address.ip] if exit_ is not mesh else []
    if exit6 is not mesh and exit6.address6 is not None and mesh.address6 is not None:
        others.append(exit6.address6.ip)
    return _Way(Door(mesh.inner, tuple(others)), table_of(mesh))


def _led(way: _Way) -> list[Request]:
    return [rtnetlink.add_mark_rule(ROUTING_MARK, way.table, version) for version in way.led]
