"""Which containers a prune removes. Pure."""

from __future__ import annotations

from datetime import datetime

from enxame.engine.container import Container
from enxame.engine.networks.moments import parse_moment
from enxame.model.filters import Filters

PRUNE_FILTERS = ("label", "label!", "until")


class PruneFilter:
    """``until``, ``label`` and ``label!``. Raises InvalidArgument for an ``until`` that is no time."""

    def __init__(self, filters: Filters, now: datetime) -> None:
        self._filters = filters
        self._until = [parse_moment(text, now) for text in filters.get("until")]

    def passes(self, container: Container) -> bool:
        """Whether the container does not run and the filters want it."""
        if container.condition.status in {"running", "restarting"} or container.removing or container.starting:
            return False
        definition = container.definition
        if any(definition.created > moment for moment in self._until):
            return False
        labels = definition.config.labels
        if not self._filters.labels_match(labels):
            return False
        return "label!" not in self._filters or not self._filters.labels_match(labels, "label!")
