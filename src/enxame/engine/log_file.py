"""A log file on disk: read forward, start near its end, be told when it grows."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
from pathlib import Path
from typing import Self

_CHUNK = 256 << 10
_IN_MODIFY, _IN_MOVE_SELF, _IN_DELETE_SELF = 0x2, 0x800, 0x400


class LogFile:
    """Reads what is there; a missing file is an empty one. Follows a rotation: after the renamed file's end comes
    the new one's begin.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = self._open()

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self) -> bytes:
        """The next bytes; empty when there are none now."""
        if self._descriptor < 0:
            self._descriptor = self._open()
            if self._descriptor < 0:
                return b""
        data = os.read(self._descriptor, _CHUNK)
        if data or not self._rotated():
            return data
        # What was written between the read and the rename comes first.
        data = os.read(self._descriptor, _CHUNK)
        if data:
            return data
        self.close()
        self._descriptor = self._open()
        return os.read(self._descriptor, _CHUNK) if self._descriptor >= 0 else b""

    def read_only_this(self) -> bytes:
        """The next bytes of the file that was opened, whatever has its name now."""
        return os.read(self._descriptor, _CHUNK) if self._descriptor >= 0 else b""

    def _rotated(self) -> bool:
        try:
            return os.stat(self._path).st_ino != os.fstat(self._descriptor).st_ino
        except FileNotFoundError:
            return False

    def seek_to_tail(self, lines: int) -> int:
        """Go to where the last ``lines`` finished lines begin. Returns how many there are from here (≤ ``lines``)."""
        if self._descriptor < 0 or not os.fstat(self._descriptor).st_size:
            return 0
        with mmap.mmap(self._descriptor, 0, prot=mmap.PROT_READ) as text:
            start, found = tail_offset(text, lines)
        os.lseek(self._descriptor, start, os.SEEK_SET)
        return found

    def close(self) -> None:
        """Close it. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def tail_offset(text: mmap.mmap | bytes, lines: int) -> tuple[int, int]:
    """Where the last ``lines`` lines begin and how many they are; parts (``P``) belong to the line that follows."""
    position, found = len(text), 0
    if text[position - 1 : position] == b"\n":
        position -= 1
    open_parts = True  # an unfinished line at the end counts as one
    while position > 0:
        begin = text.rfind(b"\n", 0, position) + 1
        finished = text[begin : begin + 64].split(b" ", 3)[2:3] == [b"F"]
        if finished or open_parts:
            if found == lines:
                # Parts right after this line belong to a line that was counted.
                return position + 1, found
            found += 1
            open_parts = False
        position = begin - 1
    return 0, found


class GrowthWatch:
    """Tells when a file was written to, through inotify."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._changed = asyncio.Event()
        self._changed.set()
        self._watch()
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def _watch(self) -> None:
        mask = _IN_MODIFY | _IN_MOVE_SELF | _IN_DELETE_SELF
        if self._libc.inotify_add_watch(self._descriptor, os.fsencode(self._path), mask) < 0:
            # Not there yet: its directory tells when it is.
            self._libc.inotify_add_watch(self._descriptor, os.fsencode(self._path.parent), 0x100 | 0x80)
            self._watching_file = False
        else:
            self._watching_file = True

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        masks = 0
        offset = 0
        while offset < len(data):
            masks |= int.from_bytes(data[offset + 4 : offset + 8], "little")
            offset += 16 + int.from_bytes(data[offset + 12 : offset + 16], "little")
        if not self._watching_file or masks & (_IN_MOVE_SELF | _IN_DELETE_SELF):
            self._watch()
        self._changed.set()

    async def wait(self, ended: asyncio.Future[None]) -> None:
        """Return when there may be more to read, or ``ended`` is done."""
        if ended.done():
            return

        def wake(_: asyncio.Future[None]) -> None:
            self._changed.set()

        ended.add_done_callback(wake)
        try:
            await self._changed.wait()
        finally:
            ended.remove_done_callback(wake)
        self._changed.clear()

    def close(self) -> None:
        """Stop watching. Idempotent."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
