"""stdout and stderr in one stream: frames of an 8-byte header (1 stdout, 2 stderr) and data."""

from collections.abc import Callable
from typing import Any, TextIO

from enxame.cli.client import Readable
from enxame.cli.errors import CliError

_HEADER = 8


class Demultiplexer:
    """Takes bytes as they come, gives (stream number, data) of all that is complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Frames that are complete now. Raises CliError when this is no such stream."""
        self._buffer += data
        frames = []
        while len(self._buffer) >= _HEADER:
            if self._buffer[0] > 3 or self._buffer[1:4] != b"\0\0\0":
                raise CliError(f"Unrecognized input header: {self._buffer[0]}")
            end = _HEADER + int.from_bytes(self._buffer[4:8], "big")
            if len(self._buffer) < end:
                break
            frames.append((self._buffer[0], bytes(self._buffer[_HEADER:end])))
            del self._buffer[:end]
        return frames


def copy_raw(stream: Readable, out: TextIO) -> None:
    """Everything to ``out`` as it comes."""
    out.flush()
    while data := stream.read1(1 << 16):
        out.buffer.write(data)
        out.buffer.flush()


def copy_frames(stream: Readable, out: TextIO, err: TextIO) -> None:
    """Frames to where they belong."""
    copy_lines(stream, out, err)


def copy_lines(stream: Readable, out: TextIO, err: TextIO, change: Callable[[bytes], bytes] | None = None) -> None:
    """Frames to where they belong, each (one line of a log) passed through ``change``."""
    demultiplexer = Demultiplexer()
    out.flush()
    err.flush()
    while data := stream.read1(1 << 16):
        touched: set[Any] = set()
        for number, content in demultiplexer.feed(data):
            if number == 3:
                raise CliError(f"error from daemon in stream: {content.decode('utf-8', 'replace')}")
            target = err.buffer if number == 2 else out.buffer
            target.write(change(content) if change else content)
            touched.add(target)
        for target in touched:
            target.flush()
