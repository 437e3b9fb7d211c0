"""Log files to the bytes that clients get: frames or plain text, in big batches. Pure.

A regular expression takes a batch apart where all its lines are of one stream, as nearly all are: some 150 ns a line.
conmon cuts a line wherever its buffer ends, so that each batch has a few in two parts. What is left goes line by line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain
from typing import Final

from enxame.engine.logs import LineJoiner, passing
from enxame.model.stream import STDERR, STDOUT, LogOptions, LogRecord

__all__ = ["LogRenderer"]

#: conmon's prefix: 29 characters of local time, 6 of its offset, 10 of stream and kind.
_PREFIX: Final = 45
_WHOLE: Final = {
    STDOUT: re.compile(rb".{35} stdout F (.*\n)"),
    STDERR: re.compile(rb".{35} stderr F (.*\n)"),
}
_STAMPED: Final = {
    STDOUT: re.compile(rb"(.{29})[+-]00:00 stdout F (.*\n)"),
    STDERR: re.compile(rb"(.{29})[+-]00:00 stderr F (.*\n)"),
}
#: conmon cuts lines at 8 KiB; two parts are joined here, of more the slow way takes care.
_LONGEST: Final = 20000


def _frame_head(stream: int, length: int) -> bytes:
    return b"%c\0\0\0%b" % (stream, length.to_bytes(4, "big"))


_HEADS: Final[dict[int, Callable[[int], bytes]]] = {
    stream: [_frame_head(stream, length) for length in range(_LONGEST)].__getitem__ for stream in (STDOUT, STDERR)
}


def join_parts(data: bytes) -> tuple[bytes, bytes] | None:
    """Whole lines out of lines in two parts; what the last line begins but does not end is held back. None: lines of
    more parts, or of both streams in turns. (``data`` ends with a newline.)
    """
    mark, end_mark = (b" stderr P ", b" stderr F ") if data[35:43] == b" stderr " else (b" stdout P ", b" stdout F ")
    pieces: list[bytes] = []
    taken = position = 0
    while (hit := data.find(mark, position)) >= 0:
        if hit != 35 and (hit < 36 or data[hit - 36] != 10):  # in a line's text
            position = hit + 1
            continue
        end = data.index(b"\n", hit)
        following = data[end + 36 : end + 46]
        if following != end_mark:
            if following:
                return None
            pieces.append(data[taken : hit - 35])
            return b"".join(pieces), data[hit - 35 :]
        pieces += (data[taken:hit], end_mark, data[hit + 10 : end])
        taken = position = end + 46
    pieces.append(data[taken:])
    return b"".join(pieces), b""


class LogRenderer:
    """``framed``: each line under a head that tells its stream; ``stamps``: its time before it, then ``details``."""

    def __init__(self, options: LogOptions, *, framed: bool, stamps: bool = False, details: str = "") -> None:
        self._options = options
        self._framed, self._stamps, self._details = framed, stamps, details.encode()
        self._joiner = LineJoiner()
        self._rest = b""
        self._fast = not (options.since or options.until or details)

    def feed(self, data: bytes) -> bytes:
        """Bytes of the file in; what is finished of them out."""
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest, data = data[end:], data[:end]
        if not data:
            return b""
        if self._fast and self._joiner.whole and (joined := join_parts(data)) is not None:
            whole, held = joined
            if (out := self._in_one(whole)) is not None:
                self._rest = held + self._rest
                return out
        return self._line_by_line(self._joiner.feed(data))

    def finish(self) -> bytes:
        """What the program wrote last without ending the line."""
        return self._line_by_line([*self._joiner.feed(self._rest), *self._joiner.finish()])

    def _in_one(self, data: bytes) -> bytes | None:
        """A batch of whole lines of one stream; None when it is not such a one."""
        if not data:
            return b""
        stream = STDERR if data[35:43] == b" stderr " else STDOUT
        wanted = self._options.stdout if stream == STDOUT else self._options.stderr
        if self._stamps:
            pieces = _STAMPED[stream].findall(data)
            texts = [b"%bZ %b" % piece for piece in pieces]
            covered = sum(map(len, texts)) + (_PREFIX - 31) * len(texts)
        else:
            texts = _WHOLE[stream].findall(data)
            covered = sum(map(len, texts)) + _PREFIX * len(texts)
        if covered != len(data):
            return None
        if not wanted:
            return b""
        if not self._framed:
            return b"".join(texts)
        try:
            heads = list(map(_HEADS[stream], map(len, texts)))
        except IndexError:
            return None
        return b"".join(chain.from_iterable(zip(heads, texts, strict=True)))

    def _line_by_line(self, records: list[LogRecord]) -> bytes:
        out: list[bytes] = []
        for record in passing(records, self._options):
            text = self._details + b" " + record.data if self._details else record.data
            if self._stamps:
                text = record.timestamp.encode() + b" " + text
            if self._framed:
                out.append(_frame_head(record.stream, len(text)))
            out.append(text)
        return b"".join(out)
