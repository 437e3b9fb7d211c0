"""The manager's tables on disk, as they were told: a daemon that starts knows what the one before programmed, whether a
manager is in reach or not.

One file a network, a line a message. The first is a whole table, those after it are differences; a file that grew much
longer than the table is begun anew. They are under the exec root: after a reboot there are no containers whose networks
they could tell of.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from enxame.errors import EnxameError
from enxame.model.base import decode, encode
from enxame.model.dispatch import NetworkTable

_log = logging.getLogger(__name__)
#: Bytes of differences that are kept beside a small table.
_ROOM: Final = 256 * 1024


class TableFiles:
    """The files in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        #: Size of the whole table and of the differences after it.
        self._sizes: dict[str, tuple[int, int]] = {}

    def load(self) -> Iterator[NetworkTable]:
        """All messages in their order. What cannot be read is reported and dropped."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for path in self._directory.glob("*.json"):
            try:
                # The end of a message that was cut off has no line end.
                lines = path.read_bytes().split(b"\n")[:-1]
                yield from [decode(line, NetworkTable) for line in lines]
            except (EnxameError, OSError) as error:
                _log.error("the table of a network %s cannot be used: %s", path, error)
                path.unlink(missing_ok=True)

    def keep(self, told: NetworkTable, whole: Callable[[], NetworkTable]) -> None:
        """A message came; ``whole`` gives the table with it."""
        network_id = told.network_id
        path = self._directory / f"{network_id}.json"
        line = encode(told) + b"\n"
        base, more = self._sizes.get(network_id, (0, 0))
        try:
            if base and not told.complete and more + len(line) <= base + _ROOM:
                with path.open("ab") as file:
                    file.write(line)
                self._sizes[network_id] = base, more + len(line)
                return
            if not told.complete:
                line = encode(whole()) + b"\n"
            self._directory.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".new")
            draft.write_bytes(line)
            draft.replace(path)
            self._sizes[network_id] = len(line), 0
        except OSError as error:
            # What is told now is true now; only a restart without a manager would not know it.
            self._sizes.pop(network_id, None)
            _log.error("the table of a network cannot be kept in %s: %s", path, error)

    def drop(self, network_id: str) -> None:
        """There is no such table any more. Idempotent."""
        self._sizes.pop(network_id, None)
        (self._directory / f"{network_id}.json").unlink(missing_ok=True)
