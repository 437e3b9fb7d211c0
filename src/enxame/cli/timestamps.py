"""Moments on the wire and in flags: RFC 3339 with nanoseconds, Unix seconds, and "10m" for ten minutes ago."""

import re
import time
from datetime import UTC, datetime
from typing import Final

from enxame.cli.options.numbers import parse_duration

_RFC3339: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?$")
_LOCAL_FORMS: Final = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d")


def parse_timestamp(text: str) -> tuple[int, int]:
    """(seconds since 1970, nanoseconds) of an RFC 3339 text. Raises ValueError."""
    match = _RFC3339.match(text)
    if not match:
        raise ValueError(f'parsing time "{text}": not RFC 3339')
    moment = datetime.fromisoformat(match[1] + (match[3] or "Z").replace("Z", "+00:00"))
    return int(moment.timestamp()), int((match[2] or "0")[:9].ljust(9, "0"))


def epoch(text: str) -> float:
    """Seconds since 1970; 0.0 for Go's zero time and for nonsense."""
    try:
        seconds, nanoseconds = parse_timestamp(text)
    except ValueError:
        return 0.0
    return 0.0 if seconds < -(10**10) else seconds + nanoseconds / 1e9


def go_time(text: str) -> str:
    """As Go prints a time: ``2022-11-22 02:25:17.903612904 +0000 UTC``."""
    match = _RFC3339.match(text)
    if not match:
        return text
    fraction = (match[2] or "").rstrip("0")
    zone = (
        "+0000 UTC" if match[3] in {"Z", "+00:00", None} else f"{match[3].replace(':', '')} {match[3].replace(':', '')}"
    )
    return f"{match[1].replace('T', ' ')}{f'.{fraction}' if fraction else ''} {zone}"


def local_time(seconds: float) -> str:
    """As docker prints when an image was made: ``2022-11-22 02:25:17 +0000 UTC`` in the local zone."""
    moment = datetime.fromtimestamp(seconds, UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S %z %Z")


def rfc3339_nano(seconds: int, nanoseconds: int, *, local: bool = True) -> str:
    """``2022-11-22T02:25:17.903612904Z`` or with the local zone's offset."""
    moment = datetime.fromtimestamp(seconds, UTC)
    if local:
        moment = moment.astimezone()
    offset = moment.strftime("%z")
    zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
    return f"{moment.strftime('%Y-%m-%dT%H:%M:%S')}.{nanoseconds:09d}{zone}"


def query_timestamp(text: str, now: float | None = None) -> str:
    """What the API takes for ``--since``/``--until``: Unix seconds with a fraction.

    ``text`` is a duration before now ("10m"), a date or time (local when it has no zone), or Unix seconds.
    """
    if not text:
        return ""
    try:
        ago = parse_duration(text)
    except ValueError:
        pass
    else:
        if text != "0":
            return str(int((time.time() if now is None else now) - ago / 1e9))
    match = _RFC3339.match(text)
    if match and match[3]:
        seconds, nanoseconds = parse_timestamp(text)
        return f"{seconds}.{nanoseconds:09d}"
    body, _, fraction = text.removesuffix("Z").partition(".")
    for form in _LOCAL_FORMS:
        try:
            moment = datetime.strptime(body, form)  # noqa: DTZ007 - given in local time
        except ValueError:
            continue
        moment = moment.replace(tzinfo=UTC) if text.endswith("Z") else moment.astimezone()
        return f"{int(moment.timestamp())}.{fraction[:9].ljust(9, '0')}"
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return text
    raise ValueError(f'failed to parse value for "since": {text}')
