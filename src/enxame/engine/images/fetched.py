"""Layers that came from a registry, whole, and have not become part of an image: because the pull was interrupted.

The next pull need not fetch them again. They go after a day, with ``image prune``, and when the disk is short.
What they hold is checked against their digest when they are unpacked.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["FetchedBlobs"]

_log = logging.getLogger(__name__)
#: Seconds that a blob is kept for a pull that may come again.
_KEPT: Final = 24 * 3600.0
#: Below this share of the disk, or these bytes, nothing is kept.
_SHORT_SHARE: Final = 0.05
_SHORT_BYTES: Final = 1 << 30


class FetchedBlobs:
    """The blobs, by digest, in a directory of their own on the filesystem of the images. Its methods block."""

    def __init__(self, directory: Path, *, leased: Callable[[str], bool]) -> None:
        self._directory = directory
        self._leased = leased

    def load(self) -> None:
        """Make the directory; drop what is too old."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.expire()

    def path(self, digest: str) -> Path:
        """Where a blob is, or would be."""
        return self._directory / digest.removeprefix("sha256:")

    def keep(self, digest: str, blob: Path) -> Path:
        """Take a whole blob over. Returns where it is now."""
        target = self.path(digest)
        blob.rename(target)
        os.utime(target)
        return target

    def drop(self, digest: str) -> None:
        """It is an image's now, or is damaged."""
        self.path(digest).unlink(missing_ok=True)

    def expire(self) -> None:
        """Drop what has waited for a day, and everything when the disk is short."""
        self._remove(older_than=0.0 if self._disk_is_short() else _KEPT)

    def clear(self) -> int:
        """Drop all that no pull is about to use. Returns the bytes."""
        return self._remove(older_than=0.0)

    def _remove(self, older_than: float) -> int:
        freed, now = 0, time.time()
        for entry in os.scandir(self._directory):
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                # A clock that was set back makes files of the future: they are none that we would keep either.
                young = 0 <= now - status.st_mtime < older_than
                if not young and not self._leased(f"sha256:{entry.name}"):
                    os.unlink(entry.path)
                    freed += status.st_size
        if freed:
            _log.info("dropped %d bytes of layers that no pull came back for", freed)
        return freed

    def _disk_is_short(self) -> bool:
        disk = os.statvfs(self._directory)
        return disk.f_bavail < disk.f_blocks * _SHORT_SHARE or disk.f_bavail * disk.f_frsize < _SHORT_BYTES
