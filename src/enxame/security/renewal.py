"""When a node's certificate is renewed (pure)."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from enxame.security.ca import BACKDATE

__all__ = ["RENEW_AFTER", "RENEW_BEFORE", "renewal_moment"]

#: Parts of a certificate's life between which it is renewed: spread, so that nodes do not ask all at once.
RENEW_AFTER: Final = 0.5
RENEW_BEFORE: Final = 0.8


def renewal_moment(not_before: datetime, not_after: datetime, random: float) -> datetime:
    """The moment to renew, given a number from 0 to 1. Life counts from the issue, which was later than the
    backdated beginning.
    """
    issued = min(not_before + BACKDATE, not_after)
    return issued + (not_after - issued) * (RENEW_AFTER + (RENEW_BEFORE - RENEW_AFTER) * random)
