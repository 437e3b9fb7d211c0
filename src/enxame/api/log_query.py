"""The query of the ``logs`` endpoints: which streams, how far back, how long."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from enxame.api.call import Call
from enxame.errors import InvalidArgument
from enxame.model.stream import LogOptions

#: What a route that reads :func:`log_options` declares.
LOG_QUERY: Final[Mapping[str, Any]] = {
    "stdout": bool,
    "stderr": bool,
    "follow": bool,
    "since": str,
    "until": str,
    "timestamps": bool,
    "tail": str,
}


def log_options(call: Call) -> LogOptions:
    """Read it. Raises InvalidArgument when no stream is asked for or a time is none."""
    stdout, stderr = call.flag("stdout"), call.flag("stderr")
    if not (stdout or stderr):
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    tail: int | None = None
    text = call.text("tail")
    if text and text != "all":
        # As Docker: what is no number means all.
        tail = min(int(text[:20]), sys.maxsize) if text.isascii() and text.isdigit() else None
    return LogOptions(
        stdout=stdout,
        stderr=stderr,
        follow=call.flag("follow"),
        tail=tail,
        since=moment(call, "since") or 0.0,
        until=moment(call, "until") or 0.0,
    )


def moment(call: Call, parameter: str) -> float | None:
    """A time in seconds since 1970; None when absent or zero. Raises as :func:`moment_ns`."""
    nanoseconds = moment_ns(call, parameter)
    return nanoseconds / 1e9 if nanoseconds else None


def moment_ns(call: Call, parameter: str) -> int | None:
    """A time as clients send it, in nanoseconds since 1970: seconds with a fraction, or RFC 3339. None when absent.

    Raises:
        InvalidArgument: it is neither.
    """
    text = call.text(parameter)
    if not text:
        return None
    seconds, _, fraction = text.partition(".")
    digits = seconds.removeprefix("-")
    if digits.isascii() and digits.isdigit() and (not fraction or (fraction.isascii() and fraction.isdigit())):
        if len(seconds) > 12 or len(fraction) > 9:
            raise InvalidArgument(f'invalid value for "{parameter}": value out of range: {text}')
        after = int(fraction.ljust(9, "0"))
        return int(seconds) * 1_000_000_000 + (-after if seconds.startswith("-") else after)
    try:
        return round(datetime.fromisoformat(text).astimezone().timestamp() * 1e6) * 1000
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(f'invalid value for "{parameter}": failed to parse value as time: {text}') from error
