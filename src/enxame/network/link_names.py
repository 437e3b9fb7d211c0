"""How this daemon's links are called: their names begin so (systemd's ``enx<mac>`` have no dash)."""

from __future__ import annotations

from typing import Final

BRIDGE_PREFIX: Final = "enx-"
LINK_PREFIX: Final = "enxv-"
TUNNEL_PREFIX: Final = "enxt-"
