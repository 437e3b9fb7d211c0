"""Numbers in texts of clients."""

from __future__ import annotations

from typing import Final

#: More digits than any number here has. Python refuses to read thousands of them, and reads what is no ASCII digit.
_LONGEST: Final = 18


def natural(text: str) -> int | None:
    """The number that decimal digits write; None for any other text."""
    return int(text) if len(text) <= _LONGEST and text.isascii() and text.isdigit() else None
