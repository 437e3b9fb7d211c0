"""One line of a service's log, with where it came from. Not rendered as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServiceLogRecord:
    """``stream`` is 1 for stdout, 2 for stderr; ``timestamp`` RFC 3339 text; ``attrs`` the log driver's own details."""

    stream: int
    timestamp: str
    data: bytes
    node_id: str
    service_id: str
    task_id: str
    attrs: Mapping[str, str] = field(default_factory=dict)
