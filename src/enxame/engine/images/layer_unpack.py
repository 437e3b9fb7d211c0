"""Unpacking one layer into a directory, in the form overlayfs wants. Runs in the worker, confined to the directory.

The worker has made the directory its root with chroot(2) before it reads the first header: absolute names, links and
``..`` cannot lead out of it, whatever the archive says. The checks here give clear errors and keep an archive from
using its own device nodes: nothing is ever opened but files that were just made (O_EXCL).
"""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import stat
import tarfile

from enxame.engine.images.tar_content import write_content
from enxame.engine.images.tar_stream import ArchiveError, ForwardReader, each_entry

__all__ = ["LayerUnpacker"]

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_WHITEOUT_META = ".wh..wh."
_OPAQUE_XATTR = "trusted.overlay.opaque"
_XATTR_PREFIX = "SCHILY.xattr."


class LayerUnpacker:
    """Writes a layer's entries under the process's root. ``size`` adds up the content of regular files, in bytes."""

    def __init__(self, *, whiteouts: bool = True) -> None:
        """``whiteouts``: names with ``.wh.`` hide what is below; otherwise they are files like all others."""
        self.size = 0
        self._has_whiteouts = whiteouts
        self._parents = {"/"}
        self._whiteouts: set[str] = set()
        self._directory_times: dict[str, int] = {}

    def unpack(self, reader: ForwardReader) -> None:
        """Unpack the whole archive.

        Raises:
            ArchiveError: it is damaged, or tries to write outside.
            OSError: the disk refused.
        """
        each_entry(reader, lambda entry: self._entry(entry, reader))
        # Last, because making entries changes the times of the directories above them.
        for path, mtime in reversed(self._directory_times.items()):
            if stat.S_ISDIR(_mode(path) or 0):
                os.utime(path, ns=(mtime, mtime), follow_symlinks=False)

    def _entry(self, entry: tarfile.TarInfo, reader: ForwardReader) -> None:
        path = _inside(entry.name)
        parent, base = posixpath.split(path)
        if base.startswith(WHITEOUT) and self._has_whiteouts:
            self._whiteout(parent, base)
            return
        if path != "/":
            self._ensure_parent(parent)
        if entry.isreg():
            self._make_file(path, entry, reader)
        elif entry.isdir():
            self._make_directory(path)
        elif entry.issym():
            self._make_room(path)
            os.symlink(entry.linkname, path)
        elif entry.islnk():
            self._make_hard_link(path, entry)
            return  # it shares all its attributes with what it links to
        elif entry.ischr() or entry.isblk():
            self._make_room(path)
            kind = stat.S_IFCHR if entry.ischr() else stat.S_IFBLK
            os.mknod(path, kind | 0o600, os.makedev(entry.devmajor, entry.devminor))
        elif entry.isfifo():
            self._make_room(path)
            os.mkfifo(path, 0o600)
        else:
            raise ArchiveError(f"unhandled tar header type {entry.type!r} of {entry.name!r}")
        self._attributes(path, entry)

    def _whiteout(self, parent: str, base: str) -> None:
        if base == OPAQUE:
            self._ensure_parent(parent)
            os.setxattr(parent, _OPAQUE_XATTR, b"y", follow_symlinks=False)
            return
        if base.startswith(_WHITEOUT_META):
            return
        hidden = base[len(WHITEOUT) :]
        if hidden in {"", ".", ".."}:
            raise ArchiveError(f"invalid whiteout {base!r}")
        self._ensure_parent(parent)
        path = posixpath.join(parent, hidden)
        mode = _mode(path)
        if mode is None:
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
            self._whiteouts.add(path)
        elif stat.S_ISDIR(mode):  # hides what lies below, while this layer has a directory of the name itself
            os.setxattr(path, _OPAQUE_XATTR, b"y", follow_symlinks=False)

    def _make_file(self, path: str, entry: tarfile.TarInfo, reader: ForwardReader) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileExistsError:
            self._make_room(path)
            descriptor = os.open(path, flags, 0o600)
        try:
            write_content(descriptor, entry, reader)
        finally:
            os.close(descriptor)
        self.size += entry.size

    def _make_directory(self, path: str) -> None:
        mode = _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            return
        hides = path in self._whiteouts
        self._make_room(path)
        os.mkdir(path, 0o700)
        if hides:
            os.setxattr(path, _OPAQUE_XATTR, b"y", follow_symlinks=False)

    def _make_hard_link(self, path: str, entry: tarfile.TarInfo) -> None:
        target = _inside(entry.linkname)
        mode = _mode(target)
        if mode is None or stat.S_ISDIR(mode):
            raise ArchiveError(f"invalid hard link {entry.name!r}: {entry.linkname!r} is not a file of this layer")
        if target != path:
            self._make_room(path)
            os.link(target, path, follow_symlinks=False)

    def _make_room(self, path: str) -> None:
        """Remove what an earlier entry of this archive left at ``path``."""
        mode = _mode(path)
        if mode is None:
            return
        if path == "/":
            raise ArchiveError("the root of a layer must be a directory")
        if stat.S_ISDIR(mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)
        self._whiteouts.discard(path)
        self._parents = {"/"}

    def _ensure_parent(self, parent: str) -> None:
        if parent in self._parents:
            return
        self._ensure_parent(posixpath.dirname(parent))
        mode = _mode(parent)
        if mode is not None and stat.S_ISLNK(mode):  # a link to a directory of this layer will do
            try:
                mode = os.stat(parent).st_mode
            except OSError:
                mode = None
                self._make_room(parent)
        if mode is None or not stat.S_ISDIR(mode):
            hides = parent in self._whiteouts
            self._make_room(parent)
            os.mkdir(parent, 0o755)
            if hides:
                os.setxattr(parent, _OPAQUE_XATTR, b"y", follow_symlinks=False)
        self._parents.add(parent)

    def _attributes(self, path: str, entry: tarfile.TarInfo) -> None:
        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        if not entry.issym():
            os.chmod(path, stat.S_IMODE(entry.mode))  # after chown, which clears setuid
        for name, text in entry.pax_headers.items():
            if name.startswith(_XATTR_PREFIX):
                _set_xattr(path, name[len(_XATTR_PREFIX) :], text.encode("utf-8", "surrogateescape"))
        mtime = int(entry.mtime * 1_000_000_000)
        if entry.isdir():
            self._directory_times[path] = mtime
        else:
            os.utime(path, ns=(mtime, mtime), follow_symlinks=False)


def _inside(name: str) -> str:
    """The entry's absolute path in the layer. Raises ArchiveError where it climbs out."""
    if "\0" in name:
        raise ArchiveError(f"invalid name {name!r}")
    path = posixpath.normpath(name.lstrip("/") or ".")
    if path == ".." or path.startswith("../"):
        raise ArchiveError(f"{name!r} is outside of the layer")
    return "/" if path == "." else f"/{path}"


def _mode(path: str) -> int | None:
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _set_xattr(path: str, name: str, value: bytes) -> None:
    # overlayfs's own attributes could make a layer show what is not its own.
    if name.startswith(("trusted.overlay.", "user.overlay.")):
        return
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError as error:
        # As Docker: attributes that this filesystem cannot hold are left out; file capabilities must not be.
        if error.errno in {errno.ENOTSUP, errno.EPERM} and name != "security.capability":
            return
        raise
