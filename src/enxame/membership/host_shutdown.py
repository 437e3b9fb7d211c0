"""Whether the machine itself goes down, and not only this daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

#: Where systemd runs the machine.
SYSTEMD: Final = Path("/run/systemd/system")
_ASK: Final = ("systemctl", "is-system-running")
_DEADLINE: Final = 0.5


async def is_under_way() -> bool:
    """Whether systemd is about to halt or restart the machine; False where nobody can tell."""
    if not SYSTEMD.is_dir():
        return False
    try:
        asked = await asyncio.create_subprocess_exec(
            *_ASK, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(_DEADLINE):
            said, _ = await asked.communicate()
    except TimeoutError:
        asked.kill()
        await asked.wait()
        return False
    return said.strip() == b"stopping"
