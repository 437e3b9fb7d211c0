"""Writes a tar entry's content to a new file. Runs in workers: only the standard library is imported."""

from __future__ import annotations

import os
import tarfile

from enxame.engine.images.tar_stream import CHUNK, ArchiveError, ForwardReader

__all__ = ["write_content"]


def write_content(descriptor: int, entry: tarfile.TarInfo, reader: ForwardReader) -> None:
    """The content of ``entry``, which ``reader`` stands before; a sparse file gets its holes.

    Raises:
        ArchiveError: the archive ends too early, or its map of holes makes no sense.
        OSError: the disk refused.
    """
    if not entry.sparse:
        _copy(reader, descriptor, entry.size, entry.name)
        return
    pieces: list[tuple[int, int]] = entry.sparse  # type: ignore[assignment]
    for offset, length in pieces:
        if offset < 0 or length < 0 or offset + length > entry.size:
            raise ArchiveError(f"archive/tar: invalid sparse map of {entry.name!r}")
        os.lseek(descriptor, offset, os.SEEK_SET)
        _copy(reader, descriptor, length, entry.name)
    os.ftruncate(descriptor, entry.size)


def _copy(reader: ForwardReader, descriptor: int, size: int, name: str) -> None:
    while size > 0:
        piece = reader.read(min(size, CHUNK))
        if not piece:
            raise ArchiveError(f"unexpected EOF in {name!r}")
        size -= len(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(descriptor, view) :]
