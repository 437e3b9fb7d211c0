"""Backups of the swarm, made while it runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from enxame.backup import files
from enxame.backup.files import Secret
from enxame.backup.form import Head, Item
from enxame.errors import NotFound
from enxame.model.base import Meta
from enxame.model.cluster import Cluster
from enxame.store.kinds import KINDS, encode_record
from enxame.store.store import Store

__all__ = ["BackupControl"]

_END: Final = b""


class BackupControl:
    """``GET /swarm/backup``. ``node_files`` gives what only this node has and a restored manager needs."""

    def __init__(
        self, store: Store, node_id: str, *, wall: Callable[[], datetime], node_files: Callable[[], Sequence[Item]]
    ) -> None:
        self._store = store
        self._node_id = node_id
        self._wall = wall
        self._node_files = node_files

    async def stream(self, secret: Secret | None = None) -> AsyncIterator[bytes]:
        """A backup of the swarm as it is now: everything at one revision. Threads do the work, piece by piece."""
        pieces = self._pieces(secret)
        while piece := await asyncio.to_thread(next, pieces, _END):
            yield piece

    async def write(self, path: Path, secret: Secret | None = None) -> Head:
        """Keep a backup in a file of this machine. Raises EnxameError."""
        pieces = self._pieces(secret)
        return await asyncio.to_thread(files.write, path, pieces, secret)

    def _pieces(self, secret: Secret | None) -> Iterator[bytes]:
        revision, objects = self._store.snapshot()
        cluster = next((obj for obj in objects if isinstance(obj, Cluster)), None)
        if cluster is None:
            raise NotFound("This node is not part of a swarm")
        counts = dict(Counter(KINDS[type(obj)].name for obj in objects))
        head = Head(cluster.id, self._node_id, revision, counts, self._wall().isoformat(timespec="seconds"))
        return self._encoded(head, objects, secret)

    def _encoded(self, head: Head, objects: Sequence[Meta], secret: Secret | None) -> Iterator[bytes]:
        own = self._node_files()
        counts = head.counts | Counter(item.kind for item in own)
        yield from files.encode(replace(head, counts=counts), _items(objects, own), secret)


def _items(objects: Iterable[Meta], own: Iterable[Item]) -> Iterator[Item]:
    yield from own
    for obj in objects:
        yield Item(KINDS[type(obj)].name, obj.id, obj.version.index, encode_record(obj))
