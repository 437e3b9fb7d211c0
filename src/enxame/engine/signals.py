"""Signals by Docker's names."""

from __future__ import annotations

import signal

from enxame.errors import InvalidArgument


def parse_signal(text: str) -> int:
    """``SIGTERM``, ``TERM``, ``15``, ``RTMIN+3`` to a number. Raises InvalidArgument ``Invalid signal: X``."""
    if text.isdigit():
        number = int(text)
        if 0 < number < signal.NSIG:
            return number
        raise InvalidArgument(f"Invalid signal: {text}")
    name = text.upper().removeprefix("SIG")
    base, plus, offset = name.partition("+")
    if not plus:
        base, plus, offset = name.partition("-")
    found = getattr(signal, f"SIG{base}", None)
    if isinstance(found, signal.Signals) and (not plus or (base in {"RTMIN", "RTMAX"} and offset.isdigit())):
        number = int(found) + (int(offset or 0) if "+" in name else -int(offset or 0))
        if 0 < number < signal.NSIG:
            return number
    raise InvalidArgument(f"Invalid signal: {text}")
