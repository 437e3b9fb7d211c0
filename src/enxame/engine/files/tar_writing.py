"""Writes a directory tree as a tar, front to back. Runs in the worker, confined to the tree.

Owners are numbers only: looking names up would load the container's libraries.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, Final

from enxame.engine.files.placeholders import made_for_the_container

__all__ = ["TarWriter"]

_CHUNK: Final = 1 << 20
_BLOCK: Final = 512
_XATTR_PREFIX: Final = "SCHILY.xattr."
#: Of the attributes, those that Docker's archives carry too.
_KEPT_XATTRS: Final = ("security.capability",)
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
_OPAQUE_XATTR: Final = "trusted.overlay.opaque"


class TarWriter:
    """``layer``: the tree is an overlay's upper directory; whiteouts become an image layer's ``.wh.`` files."""

    def __init__(self, out: BinaryIO, *, layer: bool = False) -> None:
        self._out = out
        self._layer = layer
        self._links: dict[tuple[int, int], str] = {}

    def add(self, path: str, name: str) -> None:
        """Write ``path`` and all below it under ``name``.

        Raises:
            OSError: it cannot be read, or nobody takes what is written.
        """
        for found, called, info in _walk(path, name):
            self._entry(found, called, info)

    def finish(self) -> None:
        """Write the end of the archive."""
        self._out.write(b"\0" * (2 * _BLOCK))
        self._out.flush()

    def _entry(self, path: str, name: str, info: os.stat_result) -> None:
        mode = info.st_mode
        if self._layer and made_for_the_container(f"/{name}", info):
            return
        if self._layer and stat.S_ISCHR(mode) and info.st_rdev == 0:
            parent, base = posixpath.split(name)
            self._header(self._plain(posixpath.join(parent, WHITEOUT + base), info))
            return
        if stat.S_ISSOCK(mode):
            return  # as Docker: an archive cannot hold one
        entry = self._plain(name, info)
        entry.mode = stat.S_IMODE(mode)
        entry.uid, entry.gid, entry.mtime = info.st_uid, info.st_gid, info.st_mtime
        if stat.S_ISREG(mode):
            self._file(path, entry, info)
            return
        if stat.S_ISDIR(mode):
            entry.type = tarfile.DIRTYPE
            entry.name = name if name.endswith("/") else f"{name}/"
        elif stat.S_ISLNK(mode):
            entry.type = tarfile.SYMTYPE
            entry.linkname = os.readlink(path)
        elif stat.S_ISFIFO(mode):
            entry.type = tarfile.FIFOTYPE
        else:
            entry.type = tarfile.CHRTYPE if stat.S_ISCHR(mode) else tarfile.BLKTYPE
            entry.devmajor, entry.devminor = os.major(info.st_rdev), os.minor(info.st_rdev)
        self._header(entry)
        if self._layer and stat.S_ISDIR(mode) and _attribute(path, _OPAQUE_XATTR) == b"y":
            self._header(self._plain(posixpath.join(name, OPAQUE), info))

    @staticmethod
    def _plain(name: str, info: os.stat_result) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        entry.mtime = int(info.st_mtime)
        return entry

    def _file(self, path: str, entry: tarfile.TarInfo, info: os.stat_result) -> None:
        if info.st_nlink > 1:
            key = (info.st_dev, info.st_ino)
            if (first := self._links.get(key)) is not None:
                entry.type, entry.linkname = tarfile.LNKTYPE, first
                self._header(entry)
                return
            self._links[key] = entry.name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # deleted since we looked
        try:
            seen = os.fstat(descriptor)
            if not stat.S_ISREG(seen.st_mode):
                return  # replaced since we looked
            for name in _KEPT_XATTRS:
                if (value := _attribute(descriptor, name)) is not None:
                    entry.pax_headers = {_XATTR_PREFIX + name: value.decode("utf-8", "surrogateescape")}
            entry.size = seen.st_size
            self._header(entry)
            self._content(descriptor, entry.size)
        finally:
            os.close(descriptor)

    def _content(self, descriptor: int, size: int) -> None:
        left = size
        while left and (data := os.read(descriptor, min(left, _CHUNK))):
            self._out.write(data)
            left -= len(data)
        while left:  # it shrank: the header has promised more
            piece = min(left, _CHUNK)
            self._out.write(bytes(piece))
            left -= piece
        self._out.write(bytes(-size % _BLOCK))

    def _header(self, entry: tarfile.TarInfo) -> None:
        self._out.write(entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))


def _walk(path: str, name: str) -> Iterator[tuple[str, str, os.stat_result]]:
    """Parents first, by name. A stack of our own: how deep it goes is up to the container."""
    waiting = [(path, name)]
    while waiting:
        path, name = waiting.pop()
        try:
            info = os.lstat(path)
        except FileNotFoundError:  # gone since we looked
            continue
        yield path, name, info
        if stat.S_ISDIR(info.st_mode):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                below = sorted(os.listdir(path), reverse=True)
                waiting += [(posixpath.join(path, base), posixpath.join(name, base)) for base in below]


def _attribute(path: str | int, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name) if isinstance(path, int) else os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return None
