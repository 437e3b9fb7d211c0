"""Where a filesystem puts new files: a hint for ext4, which others do not have and do not need."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["spread_children"]

_GET_FLAGS: Final = 0x80086601
_SET_FLAGS: Final = 0x40086602
_TOP_OF_HIERARCHIES: Final = 0x20000


def spread_children(directory: Path) -> None:
    """Let the directories below grow apart on the disk (``chattr +T``). Without a journal, ext4 steps over all inodes
    that were deleted in the last minutes: three thousand files next to a removed layer took it four times as long.
    Blocks; does nothing where it is not known.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            flags = struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, struct.pack("l", 0)))[0]
            fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", flags | _TOP_OF_HIERARCHIES))
    finally:
        os.close(descriptor)
