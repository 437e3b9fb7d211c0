"""Moving the state of a running swarm from one backend to another without losing a write.

Freeze, copy at one revision, read back and compare, point to the new state, go on there. Until the pointer is written
the old state is the state; from then on the new one is. A crash at any moment leaves one of the two, whole.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from enxame.errors import EnxameError
from enxame.store import pointer as pointers
from enxame.store.backend import Backend, Record
from enxame.store.pointer import Pointer
from enxame.store.switching import SwitchingBackend

__all__ = ["MoveFailed", "clear_leftovers", "difference", "move"]

_log = logging.getLogger(__name__)


class MoveFailed(EnxameError):
    """The state was not moved: it goes on where it was."""

    status = 503


def difference(wanted: Iterable[Record], found: Iterable[Record]) -> str:
    """What a copy lacks, has too much or different; empty when it is equal, revisions included."""
    left = {(record.kind, record.id): record for record in wanted}
    right = {(record.kind, record.id): record for record in found}
    for key, record in left.items():
        if (other := right.get(key)) is None:
            return f"{key[0]} {key[1]} is missing"
        if other != record:
            return f"{key[0]} {key[1]} differs"
    surplus = next((key for key in right if key not in left), None)
    return f"{surplus[0]} {surplus[1]} is too much" if surplus else ""


async def move(
    backend: SwitchingBackend,
    directory: Path,
    *,
    kind: str,
    prepare: Callable[[Pointer, int, list[Record]], Awaitable[Backend]],
    discard: Callable[[Pointer], Awaitable[None]],
) -> Pointer:
    """Move the state to a new backend of this kind; returns where it is now.

    ``prepare`` makes the new backend at the place that it is told, with these records at this revision (and, for etcd,
    lets it lead). ``discard`` undoes that when the move fails. Commits wait meanwhile. The former backend is closed and
    its files are removed; with etcd, ending the member is the caller's.

    Raises:
        MoveFailed: nothing has changed.
    """
    before = pointers.read(directory)
    target = before.next(kind)
    new: Backend | None = None
    async with backend.frozen():
        try:
            revision, records = await backend.current.load()
            new = await prepare(target, revision, records)
            copied, found = await new.load()
            problem = difference(records, found)
            if problem or copied < revision:
                raise MoveFailed(f"the copy is not like the state: {problem or f'revision {copied} < {revision}'}")
            # In the loop's own thread: nobody can cancel between the pointer and the switch.
            _point(directory, target)
        except BaseException as error:
            if new is not None:
                await new.close()
            if pointers.read(directory) != target:
                await discard(target)
            if isinstance(error, EnxameError | OSError):
                raise MoveFailed(f"the swarm's state could not be moved to {kind}: {error}") from error
            raise
        former = backend.switch(new)
    _log.info("the swarm's state moved from %s to %s at revision %d", before.kind, kind, revision)
    await former.close()
    return target


def _point(directory: Path, target: Pointer) -> None:
    try:
        pointers.write(directory, target)
    except OSError as error:
        # Once the pointer is in place it counts, also when its directory could not be synced.
        if pointers.read(directory) != target:
            raise
        _log.error("%s points to the new state, but may not outlive a power failure: %s", directory, error)


async def clear_leftovers(directory: Path) -> list[str]:
    """Remove states that are not pointed to. Call only when no backend and no member runs on them."""

    def clear() -> list[str]:
        pointer = pointers.read(directory)
        names = pointers.leftovers([path.name for path in directory.iterdir()], pointer)
        for name in names:
            path = directory / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return names

    return await asyncio.to_thread(clear)
