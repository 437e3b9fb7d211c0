"""The last acknowledged revision, beside the database: SQLite takes a log that was lost or cut for one that never was.

The mark is written after a commit is durable and is not synced itself: after a power failure it may be behind, never
ahead. A database that is behind its mark has lost what was acknowledged.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

__all__ = ["HighWater"]

_log = logging.getLogger(__name__)
_WIDTH = 20


class HighWater:
    """The mark in the file at ``path``. Raises OSError when it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> int:
        """The mark; 0 when there is none or it cannot be read."""
        text = os.pread(self._file, _WIDTH, 0).strip()
        return int(text) if text.isdigit() else 0

    def write(self, revision: int) -> None:
        """Move the mark. A failure only weakens the check: it is logged, the commit stands."""
        try:
            os.pwrite(self._file, b"%*d" % (_WIDTH, revision), 0)
        except OSError as error:
            _log.warning("%s: %s", self.path, error.strerror)

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)
