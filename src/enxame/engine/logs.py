"""A container's log: conmon's ``k8s-file`` lines, ``TIME STREAM P|F TEXT``, back to the bytes that were written.

conmon splits at its buffer's size (``P``: more of the line follows); the parts are joined again here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from enxame.engine.log_file import GrowthWatch, LogFile
from enxame.engine.log_rotation import older_files
from enxame.engine.uncancelled import to_the_end
from enxame.model.stream import STDERR, STDOUT, LogOptions, LogRecord

T = TypeVar("T")

#: A line longer than this is handed on in parts: a program that never ends its line must not fill our memory.
_LONGEST = 1 << 20


class LineJoiner:
    """Joins the parts of lines, per stream. Pure."""

    def __init__(self) -> None:
        self._rest = b""
        self._parts: dict[int, tuple[str, bytearray]] = {}
        self._last = ""

    def feed(self, data: bytes) -> list[LogRecord]:
        """Bytes of the file in; finished lines out."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        records = []
        for line in lines:
            record = self._line(line)
            if record is not None:
                records.append(record)
        return records

    def _line(self, line: bytes) -> LogRecord | None:
        fields = line.split(b" ", 3)
        if len(fields) < 4 or fields[1] not in {b"stdout", b"stderr"}:
            return None  # torn by a crash of the monitor
        stream = STDOUT if fields[1] == b"stdout" else STDERR
        started, text = self._parts.pop(stream, ("", bytearray()))
        self._last = fields[0].decode(errors="replace")
        started = started or self._last
        text += fields[3]
        if fields[2] == b"F":
            return LogRecord(stream, started, bytes(text) + b"\n", self._last)
        if len(text) >= _LONGEST:
            return LogRecord(stream, started, bytes(text), self._last)
        self._parts[stream] = (started, text)
        return None

    @property
    def whole(self) -> bool:
        """Nothing waits for its other parts."""
        return not (self._rest or self._parts)

    def finish(self) -> list[LogRecord]:
        """What the program wrote last without ending the line."""
        records = [
            LogRecord(stream, when, bytes(text), self._last) for stream, (when, text) in self._parts.items() if text
        ]
        self._parts.clear()
        return records


def utc_timestamp(text: str) -> str:
    """Conmon's local time with offset as RFC 3339 in UTC, with all its digits."""
    base, dot, fraction = text.partition(".")
    zone = "+00:00"
    for sign in "+-":
        if sign in fraction:
            fraction, _, offset = fraction.partition(sign)
            zone = sign + offset
    if zone in {"+00:00", "-00:00"}:
        return f"{base}{dot}{fraction}Z"
    moment = datetime.fromisoformat(base + zone).astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}{dot}{fraction}Z"


def to_seconds(timestamp: str) -> float:
    """RFC 3339 in UTC as seconds since 1970."""
    base, _, fraction = timestamp.rstrip("Z").partition(".")
    whole = datetime.fromisoformat(base).replace(tzinfo=UTC).timestamp()
    return whole + float(f"0.{fraction or 0}")


async def read_log(
    path: Path, options: LogOptions, *, running: Callable[[], bool], ended: Callable[[], asyncio.Future[None]]
) -> AsyncGenerator[LogRecord, None]:
    """The records of a log file that ``options`` ask for; with ``follow`` until the container has ended.

    ``running`` tells whether more may come; ``ended()`` gives a future that resolves when it no longer may.
    """
    joiner = LineJoiner()
    async with aclosing(read_batches(path, options, joiner.feed, running=running, ended=ended)) as batches:
        async for records in batches:
            for record in passing(records, options):
                yield record
    for record in passing(joiner.finish(), options):
        yield record


async def read_batches(
    path: Path,
    options: LogOptions,
    digest: Callable[[bytes], T],
    *,
    running: Callable[[], bool],
    ended: Callable[[], asyncio.Future[None]],
) -> AsyncGenerator[T, None]:
    """What ``digest``, called in a thread, makes of one piece of the log after the other. See :func:`read_log`."""
    follow = options.follow and not (options.until and options.until <= time.time())

    def next_of(read: Callable[[], bytes]) -> tuple[T] | None:
        data = read()
        return (digest(data),) if data else None

    with contextlib.ExitStack() as stack:
        # Watch before the first read: nothing is missed between the two.
        growth = GrowthWatch(path) if follow else None
        if growth is not None:
            stack.callback(growth.close)
        files = await asyncio.to_thread(_open_at, path, options.tail)
        for file in files:
            stack.callback(file.close)
        for older in files[:-1]:
            while batch := await to_the_end(partial(next_of, older.read_only_this)):
                yield batch[0]
        while True:
            more_may_come = running()
            while batch := await to_the_end(partial(next_of, files[-1].read)):
                yield batch[0]
            if growth is None or not more_may_come:
                break
            if not await _wait_for_more(growth, ended(), options.until):
                break


def _open_at(path: Path, tail: int | None) -> list[LogFile]:
    """The log's files, oldest first, at where the last ``tail`` lines begin."""
    files = [LogFile(path)]
    missing = None if tail is None else tail - files[0].seek_to_tail(tail)
    for older in older_files(path):
        if missing == 0:
            break
        files.append(LogFile(older))
        if missing is not None:
            missing -= files[-1].seek_to_tail(missing)
    return files[::-1]


def passing(records: list[LogRecord], options: LogOptions) -> Iterator[LogRecord]:
    """The records that are asked for, with their times in UTC."""
    for record in records:
        if options.stdout if record.stream == STDOUT else options.stderr:
            stamp = utc_timestamp(record.timestamp)
            if _in_time(stamp, options):
                completed = stamp if record.completed == record.timestamp else utc_timestamp(record.completed)
                yield LogRecord(record.stream, stamp, record.data, completed)


def _in_time(stamp: str, options: LogOptions) -> bool:
    if not options.since and not options.until:
        return True
    moment = to_seconds(stamp)
    return moment >= options.since and (not options.until or moment <= options.until)


async def _wait_for_more(growth: GrowthWatch, ended: asyncio.Future[None], until: float) -> bool:
    try:
        async with asyncio.timeout(max(until - time.time(), 0.0) if until else None):
            await growth.wait(ended)
    except TimeoutError:
        return False
    return True
