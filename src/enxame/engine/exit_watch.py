"""Notices files that appear in a directory, through inotify: conmon writes a container's exit code there."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable

from enxame.engine.turns import Queue

_IN_CLOSE_WRITE, _IN_MOVED_TO = 0x8, 0x80
_HEADER = struct.Struct("iIII")


class DirectoryWatch:
    """Calls ``appeared(name)`` for every file that is finished or renamed into ``directory``.

    ``lagged()`` is called instead when the kernel dropped events: look at the whole directory then.
    """

    def __init__(self, directory: str, appeared: Callable[[str], None], lagged: Callable[[], None]) -> None:
        self._appeared = Queue(appeared)
        self._lagged = lagged
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0 or (
            libc.inotify_add_watch(self._descriptor, directory.encode(), _IN_CLOSE_WRITE | _IN_MOVED_TO) < 0
        ):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), directory)
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        offset, names = 0, []
        while offset < len(data):
            descriptor, _mask, _cookie, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            name = data[offset : offset + length].rstrip(b"\0").decode(errors="replace")
            offset += length
            if descriptor < 0:
                self._lagged()
            elif name:
                names.append(name)
        if names:
            self._appeared.put(*names)

    def close(self) -> None:
        """Stop watching. Idempotent."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            self._appeared.clear()
