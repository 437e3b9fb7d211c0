"""Which containers a list shows. Pure."""

from __future__ import annotations

import re
from datetime import datetime

from enxame.engine import container_view
from enxame.engine.container import Container
from enxame.engine.patterns import any_matches
from enxame.errors import InvalidArgument
from enxame.model.filters import Filters
from enxame.model.natural import natural

__all__ = ["ListFilter"]

_STATES = frozenset({"created", "running", "paused", "restarting", "removing", "exited", "dead"})
_HEALTH = frozenset({"none", "starting", "healthy", "unhealthy"})


#: First and last port, and the protocol.
_PortRange = tuple[int, int, str]


class ListFilter:
    """``docker ps --filter``, with what refers to other containers looked up before.

    ``before`` and ``since`` are creation times; ``ancestors`` are image ids and references.
    """

    def __init__(
        self, filters: Filters, *, before: datetime | None, since: datetime | None, ancestors: set[str]
    ) -> None:
        for state in filters.get("status") - _STATES:
            raise InvalidArgument(f"invalid filter 'status={state}'")
        for health in filters.get("health") - _HEALTH:
            raise InvalidArgument(f"invalid filter 'health={health}'")
        for code in filters.get("exited"):
            if not re.fullmatch(r"[+-]?\d+", code, re.ASCII):
                raise InvalidArgument(f'strconv.Atoi: parsing "{code}": invalid syntax')
        self._filters = filters
        self._id_matches = any_matches(filters.get("id"))
        self._name_matches = any_matches(filters.get("name"))
        self._publish, self._expose = (_port_ranges(filters.get(name)) for name in ("publish", "expose"))
        self._before, self._since, self._ancestors = before, since, ancestors

    def passes(self, container: Container) -> bool:
        """Whether the container is to be shown."""
        filters, definition, condition = self._filters, container.definition, container.condition
        if "id" in filters and not self._id_matches(definition.id):
            return False
        if "name" in filters and not (self._name_matches(definition.name) or self._name_matches(f"/{definition.name}")):
            return False
        if "status" in filters and container_view.state_word(container) not in filters.get("status"):
            return False
        if "exited" in filters and not (
            condition.status == "exited" and str(condition.exit_code) in filters.get("exited")
        ):
            return False
        if not filters.labels_match(definition.config.labels):
            return False
        health = condition.health.status if condition.health is not None else "none"
        if "health" in filters and health not in filters.get("health"):
            return False
        if self._before is not None and definition.created >= self._before:
            return False
        if self._since is not None and definition.created <= self._since:
            return False
        if "ancestor" in filters and not self._ancestors & {definition.image_id, definition.image}:
            return False
        return self._passes_attachments(container)

    def _passes_attachments(self, container: Container) -> bool:
        filters, definition = self._filters, container.definition
        if "network" in filters:
            networks = container_view.show_networks(container)
            known = {*networks, *(endpoint.network_id for endpoint in networks.values())}
            if not known & filters.get("network"):
                return False
        if "volume" in filters:
            sources = {mount.name or mount.source for mount in definition.mounts}
            if not (sources | {mount.destination for mount in definition.mounts}) & filters.get("volume"):
                return False
        if "is-task" in filters:
            is_task = "com.docker.swarm.task.id" in definition.config.labels
            if is_task != filters.flag("is-task"):
                return False
        if "publish" in filters and not _port_in(
            self._publish, [(port.public_port, port.type) for port in container_view.list_ports(container)]
        ):
            return False
        if "expose" in filters:
            ports = container_view.list_ports(container)
            return _port_in(self._expose, [(port.private_port, port.type) for port in ports])
        return True


def _port_ranges(wanted: frozenset[str]) -> list[_PortRange]:
    found = []
    for text in wanted:
        span, _, protocol = text.partition("/")
        first, _, last = span.partition("-")
        ends = natural(first), natural(last or first)
        if ends[0] is None or ends[1] is None:
            raise InvalidArgument(f"invalid filter 'publish/expose={text}'")
        found.append((ends[0], ends[1], protocol or "tcp"))
    return found


def _port_in(wanted: list[_PortRange], ports: list[tuple[int, str]]) -> bool:
    return any(first <= port <= last and kind == protocol for port, kind in ports for first, last, protocol in wanted)
