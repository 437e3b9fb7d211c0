"""Moments as the API's ``until`` writes them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from enxame.errors import InvalidArgument

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", re.ASCII)
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
#: Characters; no moment has more.
_LONGEST: Final = 100
_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_moment(text: str, now: datetime) -> datetime:
    """A duration back from ``now`` (``1h30m``), seconds since 1970, or a date and time (UTC when it names no zone).

    Raises:
        InvalidArgument: it is none of these.
    """
    wrong = InvalidArgument(f'failed to parse value as time or duration: "{text[:_LONGEST]}"')
    if len(text) > _LONGEST:
        raise wrong
    parts = _DURATION.findall(text)
    try:
        if parts and "".join(number + unit for number, unit in parts) == text:
            return now - timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))
        if _NUMBER.fullmatch(text):
            return datetime.fromtimestamp(float(text), UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as error:
        raise wrong from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
