"""Signals by Docker's names."""

from __future__ import annotations

import signal

from enxame.errors import InvalidArgument
from enxame.model.natural import natural


def parse_signal(text: str) -> int:
    """``SIGTERM``, ``TERM``, ``15``, ``RTMIN+3`` to a number. Raises InvalidArgument ``Invalid signal: X``."""
    if (number := natural(text)) is not None:
        if 0 < number < signal.NSIG:
            return number
        raise InvalidArgument(f"Invalid signal: {text}")
    name = text.upper().removeprefix("SIG")
    base, plus, offset = name.partition("+")
    if not plus:
        base, plus, offset = name.partition("-")
    found = getattr(signal, f"SIG{base}", None)
    distance = natural(offset or "0")
    if isinstance(found, signal.Signals) and distance is not None and (not plus or base in {"RTMIN", "RTMAX"}):
        number = int(found) + (distance if "+" in name else -distance)
        if 0 < number < signal.NSIG:
            return number
    raise InvalidArgument(f"Invalid signal: {text}")
