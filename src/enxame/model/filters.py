"""The ``filters=`` query parameter of list, prune and events calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from enxame.errors import InvalidArgument

#: Each may be compared with each object of a list.
_MOST_VALUES: Final = 1000


@dataclass(frozen=True, slots=True)
class Filters:
    """Values by filter name. A name with several values matches any of them; several names must all match."""

    values: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None, accepted: Iterable[str] | None = None) -> Filters:
        """Read the JSON text; both of Docker's forms: ``{"name": {"web": true}}`` and ``{"name": ["web"]}``.

        Raises:
            InvalidArgument: not that form, or a name outside ``accepted`` (``invalid filter 'bogus'``).
        """
        if not text:
            return cls()
        try:
            raw: Any = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidArgument(f"invalid filter: {error}") from error
        if not isinstance(raw, dict):
            raise InvalidArgument("invalid filter: expected a JSON object of names to values")
        allowed = None if accepted is None else set(accepted)
        values: dict[str, frozenset[str]] = {}
        for name, given in raw.items():
            if allowed is not None and name not in allowed:
                raise InvalidArgument(f"invalid filter '{name}'")
            if isinstance(given, dict):
                values[name] = frozenset(str(key) for key, wanted in given.items() if wanted)
            elif isinstance(given, list):
                values[name] = frozenset(str(item) for item in given)
            else:
                raise InvalidArgument(f"invalid filter '{name}': expected a list or a map of values")
        if sum(map(len, values.values())) > _MOST_VALUES:
            raise InvalidArgument(f"invalid filter: more than {_MOST_VALUES} values")
        return cls({name: wanted for name, wanted in values.items() if wanted})

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def get(self, name: str) -> frozenset[str]:
        """Values wanted for ``name``; empty when the filter is not set."""
        return self.values.get(name, frozenset())

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean filter such as ``dangling``. Raises InvalidArgument on other texts, as Docker does."""
        wanted = self.get(name)
        if not wanted:
            return default
        if wanted <= {"1", "true", "True"}:
            return True
        if wanted <= {"0", "false", "False"}:
            return False
        raise InvalidArgument(f"invalid filter '{name}=[{' '.join(sorted(wanted))}]'")

    def labels_match(self, labels: Mapping[str, str], name: str = "label") -> bool:
        """All wanted ``key`` or ``key=value`` are among ``labels``."""
        for wanted in self.get(name):
            key, equals, value = wanted.partition("=")
            if key not in labels or (equals and labels[key] != value):
                return False
        return True
