"""The filters that all lists share: id and name match from the beginning, labels by key or ``key=value``."""

from __future__ import annotations

from collections.abc import Mapping

from enxame.model.filters import Filters

__all__ = ["matches_head"]


def matches_head(
    filters: Filters, object_id: str, name: str, labels: Mapping[str, str], *, exact_names: str = ""
) -> bool:
    """Whether an object passes ``id``, ``name`` and ``label``, and the exact names of filter ``exact_names``."""
    if not _starts(filters.get("id"), object_id) or not filters.labels_match(labels):
        return False
    exact = filters.get(exact_names) if exact_names else frozenset()
    if exact and "name" not in filters:
        return name in exact
    return name in exact or _starts(filters.get("name"), name)


def _starts(prefixes: frozenset[str], text: str) -> bool:
    return not prefixes or any(text.startswith(prefix) for prefix in prefixes)
