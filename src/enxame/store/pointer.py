"""Which backend holds the swarm's state on this manager: one small file, replaced in one step. No file: SQLite.

A move makes the new state beside the old one and then points to it. Whatever the file points to is whole; what it does
not point to is a leftover.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import msgspec

from enxame.store.backend import Corrupt

__all__ = ["FIRST", "NONE", "POINTER", "Pointer", "forget", "leftovers", "read", "write"]

#: The file's name in the swarm's directory.
POINTER: Final = "state.json"
_SQLITE: Final = "state.db"


class Pointer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``kind``: sqlite|etcd, or none: a new manager that has yet to get the state. ``place``: the database file or
    etcd's data directory, in the swarm's directory; ``moves`` counts moves, so that no place is used twice.
    """

    kind: str
    place: str
    moves: int = 0

    def next(self, kind: str) -> Pointer:
        """Where a move to a backend of this kind makes the new state: a place that nothing was at before."""
        moves = self.moves + 1
        return Pointer(kind, f"state-{moves}.db" if kind == "sqlite" else f"etcd-{moves}", moves)


FIRST: Final = Pointer("sqlite", _SQLITE)
#: Of a new manager, until its member of the swarm's etcd holds the state.
NONE: Final = Pointer("none", "none")


def read(directory: Path) -> Pointer:
    """The pointer of the swarm's directory.

    Raises:
        Corrupt: it cannot be read; guessing might bring back an old state.
    """
    path = directory / POINTER
    try:
        pointer = msgspec.json.decode(path.read_bytes(), type=Pointer)
    except FileNotFoundError:
        return FIRST
    except (msgspec.DecodeError, OSError) as error:
        raise Corrupt(f"{path} cannot be read ({error}): it says where the swarm's state is") from error
    if pointer.kind not in ("sqlite", "etcd", "none") or Path(pointer.place).name != pointer.place or not pointer.place:
        raise Corrupt(f"{path} points to no state: {pointer.kind} {pointer.place}")
    return pointer


def write(directory: Path, pointer: Pointer) -> None:
    """Point there, durably and in one step. Raises OSError; then the old pointer stands."""
    draft = directory / (POINTER + ".new")
    with open(draft, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(msgspec.json.encode(pointer))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(directory / POINTER)
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def forget(directory: Path) -> None:
    """Remove pointer and state: this node is no manager any more. Raises OSError."""
    (directory / POINTER).unlink(missing_ok=True)
    for name in leftovers([path.name for path in directory.iterdir()], NONE):
        path = directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def leftovers(names: list[str], pointer: Pointer) -> list[str]:
    """Of the names in the swarm's directory, those of states that are not pointed to: moves cut off, or done."""
    found = []
    for name in names:
        stem = name.removesuffix("-wal").removesuffix("-mark").removesuffix("-journal").removesuffix(".new")
        numbered = (stem.startswith("state-") and stem.endswith(".db")) or stem.startswith("etcd-")
        if stem != pointer.place and (stem == _SQLITE or numbered):
            found.append(name)
    return sorted(found)
