"""What travels to and from a container's standard streams: logs and attach. Not rendered as JSON."""

from __future__ import annotations

from dataclasses import dataclass

STDIN, STDOUT, STDERR = 0, 1, 2


@dataclass(frozen=True, slots=True)
class LogOptions:
    """``tail`` None is all; ``since`` and ``until`` in seconds since 1970, 0 is open."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    tail: int | None = None
    since: float = 0.0
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line with its newline (a last, unfinished one without). ``timestamp`` is RFC 3339 text in UTC,
    to the nanosecond.

    ``stream`` is 1 for stdout, 2 for stderr. ``completed`` is when its last part came, where it is known: records of a
    log are in this order, while the other stream may have said whole lines since ``timestamp``.
    """

    stream: int
    timestamp: str
    data: bytes
    completed: str = ""


@dataclass(frozen=True, slots=True)
class AttachOptions:
    """``logs`` replays what was logged before; ``stream`` goes on with what comes."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False
    stream: bool = False
