"""Whether the machine itself goes down, and not only this daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from enxame.engine.children import PIPE, child
from enxame.errors import EnxameError

#: Where systemd runs the machine.
SYSTEMD: Final = Path("/run/systemd/system")
_ASK: Final = ("systemctl", "is-system-running")
_DEADLINE: Final = 0.5


async def is_under_way() -> bool:
    """Whether systemd is about to halt or restart the machine; False where nobody can tell."""
    if not SYSTEMD.is_dir():
        return False
    try:
        async with asyncio.timeout(_DEADLINE), child(*_ASK, stdout=PIPE) as asked:
            said, _ = await asked.communicate()
    except (OSError, EnxameError):  # also no answer in time
        return False
    return said.strip() == b"stopping"
