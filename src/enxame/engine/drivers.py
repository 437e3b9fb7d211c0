"""Which drivers this machine has, all built in: what ``docker info`` shows, and the scheduler asks for."""

from __future__ import annotations

from enxame.engine.create_request import log_drivers

__all__ = ["drivers"]


def drivers() -> dict[str, list[str]]:
    """Names by kind."""
    return {"Log": log_drivers(), "Network": ["bridge", "host", "macvlan", "null", "overlay"], "Volume": ["local"]}
