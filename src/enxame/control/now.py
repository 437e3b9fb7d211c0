"""The moment a decision is made at; given to every machine, never asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Now:
    """``mono`` (seconds, monotonic) is for deciding and waiting, ``wall`` (UTC) only for showing."""

    mono: float
    wall: datetime
