"""Bounds a container's log: ``max-size`` and ``max-file`` of the json-file and local drivers."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from enxame.engine.patterns import check_pattern
from enxame.engine.syslog_messages import SYSLOG_OPTIONS
from enxame.errors import InvalidArgument
from enxame.model.base import Model
from enxame.model.container import LogConfig
from enxame.model.natural import natural

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_KNOWN = (
    {"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"}
    # How a driver is fed: ours never holds a container up.
    | {"mode", "max-buffer-size"}
)

#: Drivers that bound their files unasked. Those of journald and syslog are our own copies, for reading.
_DEFAULTS = {"local": ("20m", "5"), "journald": ("20m", "5"), "syslog": ("20m", "5")}


class LogBounds(Model):
    """``size`` in bytes, 0 is no bound; ``files`` counts the current one."""

    size: int = 0
    files: int = 1


def bounds_of(config: LogConfig) -> LogBounds:
    """What a log config asks for.

    Raises:
        InvalidArgument: an unknown option or a value that is no size or number, in Docker's words.
    """
    driver = config.type or "json-file"
    for name in config.config:
        if name not in _KNOWN and not (driver == "syslog" and name in SYSLOG_OPTIONS):
            raise InvalidArgument(f"unknown log opt '{name}' for {driver} log driver")
    mode = config.config.get("mode", "blocking")
    if mode not in {"", "blocking", "non-blocking"}:
        raise InvalidArgument(f"logger: logging mode not supported: {mode}")
    buffer = config.config.get("max-buffer-size", "")
    if buffer and mode != "non-blocking":
        raise InvalidArgument("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
    if buffer and _size(buffer) is None:
        raise InvalidArgument(f"logger: error getting max-buffer-size: invalid size: '{buffer}'")
    for name in ("labels-regex", "env-regex"):
        check_pattern(config.config.get(name, ""))
    size, number = _DEFAULTS.get(driver, ("", "1"))
    text = config.config.get("max-size", size)
    bytes_ = _size(text) if text and text != "-1" else 0
    if bytes_ is None:
        raise InvalidArgument(f"invalid size: '{text}'")
    count = config.config.get("max-file", number)
    files = natural(count)
    if not files:
        raise InvalidArgument(f"max-file cannot be less than 1: {count}")
    return LogBounds(size=bytes_, files=files)


def _size(text: str) -> int | None:
    match = re.fullmatch(r"(\d{1,18})\s*([bkmg]?)b?", text.strip().lower(), re.ASCII)
    return int(match[1]) * _UNITS[match[2]] if match else None


def is_over(path: Path, bounds: LogBounds) -> bool:
    """Whether the log has outgrown its bound."""
    try:
        return bounds.size > 0 and os.stat(path).st_size >= bounds.size
    except FileNotFoundError:
        return False


def rotate(path: Path, bounds: LogBounds) -> None:
    """Move the log aside; the monitor must then be told to open a new one. The oldest file beyond the bound goes."""
    for number in range(bounds.files - 1, 0, -1):
        newer = Path(f"{path}.{number - 1}") if number > 1 else path
        with contextlib.suppress(FileNotFoundError):
            os.replace(newer, f"{path}.{number}")
    if bounds.files == 1:
        path.unlink(missing_ok=True)


def older_files(path: Path) -> list[Path]:
    """The files that were moved aside, newest first."""
    found = []
    number = 1
    while os.path.exists(f"{path}.{number}"):
        found.append(Path(f"{path}.{number}"))
        number += 1
    return found
