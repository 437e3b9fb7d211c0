"""Gives decoded JSON the types that Go's structs have, so that templates print durations and times as docker does."""

from collections.abc import Mapping
from typing import Any, Final

from enxame.cli.gotemplate.values import GoDuration
from enxame.cli.timestamps import go_time

_DURATIONS: Final = frozenset(
    {
        "Delay",
        "Monitor",
        "StopGracePeriod",
        "Interval",
        "Timeout",
        "StartPeriod",
        "StartInterval",
        "Window",
        "HeartbeatPeriod",
        "NodeCertExpiry",
    }
)
#: Times of swarm objects are times in Go; those of containers are plain texts.
_TIMES: Final = frozenset({"CreatedAt", "UpdatedAt", "Timestamp", "StartedAt", "CompletedAt"})


class Moment(str):
    """A time that prints as Go prints it, and stays RFC 3339 in JSON."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return format(go_time(str.__str__(self)), spec)


def typed(item: Any) -> Any:
    """The same value; only swarm objects (those with a Version) are changed."""
    if isinstance(item, Mapping) and isinstance(item.get("Version"), Mapping) and "Index" in item["Version"]:
        return _walk(item)
    return item


def _walk(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {k: _walk(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_walk(v) for v in value]
    if key in _DURATIONS and isinstance(value, int) and not isinstance(value, bool):
        return GoDuration(value)
    if key in _TIMES and isinstance(value, str):
        return Moment(value)
    return value
