"""The manager's tables on disk: a daemon that starts while no manager is in reach knows what the one before knew.

They are under the exec root: after a reboot there are no containers whose networks they could tell of.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from enxame.engine.networks.tables import NetworkTables, TableChange
from enxame.errors import EnxameError
from enxame.model.base import decode, encode
from enxame.model.dispatch import NetworkTable

_log = logging.getLogger(__name__)
#: Changes that come within this time are written together: seconds.
_DELAY: Final = 0.2


class TableFiles:
    """One file a network in ``directory``, some time after each change. Subscribe it after those who program."""

    def __init__(self, directory: Path, tables: NetworkTables) -> None:
        self._directory = directory
        self._tables = tables
        self._outdated: set[str] = set()
        self._writer: asyncio.Task[None] | None = None
        tables.subscribe(self._changed)

    def load(self) -> None:
        """Take up what was written; observers are not told. What cannot be read is reported and dropped."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for path in self._directory.glob("*.json"):
            try:
                self._tables.restore(decode(path.read_bytes(), NetworkTable))
            except (EnxameError, OSError) as error:
                _log.error("the table of a network %s cannot be used: %s", path, error)
                path.unlink(missing_ok=True)

    async def close(self) -> None:
        """Write what was not written yet."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        await self._write()

    async def _changed(self, changes: Sequence[TableChange]) -> None:
        self._outdated.update(change.network_id for change in changes)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._work(), name="network tables")

    async def _work(self) -> None:
        while self._outdated:
            await asyncio.sleep(_DELAY)
            await self._write()

    async def _write(self) -> None:
        outdated, self._outdated = self._outdated, set()
        for network_id in outdated:
            table = self._tables.get(network_id)
            content = encode(table.told()) if table is not None else None
            path = self._directory / f"{network_id}.json"
            try:
                await asyncio.shield(asyncio.to_thread(_replace, path, content))
            except OSError as error:
                _log.error("the table of a network cannot be kept in %s: %s", path, error)


def _replace(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
        return
    draft = path.with_suffix(".new")
    draft.write_bytes(content)
    draft.replace(path)
