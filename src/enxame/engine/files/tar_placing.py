"""Places the entries of a tar in a directory of a running or stopped container. Runs in the worker, confined to it.

What lies there already is replaced or filled, as ``docker cp`` does. Nothing is ever opened but files that were just
made (O_EXCL), so that no entry is written through another.
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

__all__ = ["TarPlacer"]

_XATTR_PREFIX = "SCHILY.xattr."
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TarPlacer:
    """``owner``: whom everything shall belong to, instead of those whom the archive names.

    ``keep_kinds``: a directory is never replaced by a file, nor a file by a directory.
    """

    def __init__(self, directory: str, *, owner: tuple[int, int] | None, keep_kinds: bool) -> None:
        self._directory = directory
        self._owner = owner
        self._keep_kinds = keep_kinds
        self._directory_times: dict[str, int] = {}

    def place(self, reader: ForwardReader) -> None:
        """Place all entries.

        Raises:
            ArchiveError: the archive is damaged, climbs out, or would replace what it must not.
            OSError: the disk refused.
        """
        each_entry(reader, lambda entry: self._entry(entry, reader))
        for path, mtime in reversed(self._directory_times.items()):
            os.utime(path, ns=(mtime, mtime), follow_symlinks=False)

    def _entry(self, entry: tarfile.TarInfo, reader: ForwardReader) -> None:
        path = self._inside(entry.name)
        if path != self._directory:
            self._ensure_parent(posixpath.dirname(path))
            self._make_room(path, entry)
        if entry.isreg():
            self._make_file(path, entry, reader)
        elif entry.isdir():
            if not os.path.isdir(path) or os.path.islink(path):
                os.mkdir(path, 0o700)
        elif entry.issym():
            os.symlink(entry.linkname, path)
        elif entry.islnk():
            self._link(path, entry)
            return
        elif entry.ischr() or entry.isblk():
            kind = stat.S_IFCHR if entry.ischr() else stat.S_IFBLK
            os.mknod(path, kind | 0o600, os.makedev(entry.devmajor, entry.devminor))
        elif entry.isfifo():
            os.mkfifo(path, 0o600)
        else:
            raise ArchiveError(f"unhandled tar header type {entry.type!r} of {entry.name!r}")
        self._attributes(path, entry)

    def _inside(self, name: str) -> str:
        relative = posixpath.normpath(name.lstrip("/") or ".")
        if "\0" in name or relative == ".." or relative.startswith("../"):
            raise ArchiveError(f"{name!r} is outside of {self._directory!r}")
        return self._directory if relative == "." else posixpath.join(self._directory, relative)

    def _ensure_parent(self, parent: str) -> None:
        """Directories on the way; a link to a directory will do: it leads nowhere but into this container."""
        if parent == self._directory or os.path.isdir(parent):
            return
        self._ensure_parent(posixpath.dirname(parent))
        os.mkdir(parent, 0o755)
        os.chown(parent, *(self._owner or (0, 0)), follow_symlinks=False)

    def _make_room(self, path: str, entry: tarfile.TarInfo) -> None:
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        there, wanted = stat.S_ISDIR(mode), entry.isdir()
        if self._keep_kinds and there and not wanted:
            raise ArchiveError(f'cannot overwrite directory "{path}" with non-directory "{self._directory}"')
        if self._keep_kinds and wanted and not there:
            raise ArchiveError(f'cannot overwrite non-directory "{path}" with directory "{self._directory}"')
        if there and wanted:
            return
        if there:
            shutil.rmtree(path)
        else:
            os.unlink(path)

    def _make_file(self, path: str, entry: tarfile.TarInfo, reader: ForwardReader) -> None:
        descriptor = os.open(path, _NEW, 0o600)
        try:
            write_content(descriptor, entry, reader)
        finally:
            os.close(descriptor)

    def _link(self, path: str, entry: tarfile.TarInfo) -> None:
        target = self._inside(entry.linkname)
        if target == path:
            raise ArchiveError(f"invalid hard link {entry.name!r}: it links to itself")
        os.link(target, path, follow_symlinks=False)

    def _attributes(self, path: str, entry: tarfile.TarInfo) -> None:
        os.chown(path, *(self._owner or (entry.uid, entry.gid)), follow_symlinks=False)
        if not entry.issym():
            os.chmod(path, stat.S_IMODE(entry.mode))  # after chown, which clears setuid
        for name, text in entry.pax_headers.items():
            if name.startswith(_XATTR_PREFIX):
                self._set_xattr(path, name.removeprefix(_XATTR_PREFIX), text.encode("utf-8", "surrogateescape"))
        mtime = int(entry.mtime * 1_000_000_000)
        if entry.isdir():
            self._directory_times[path] = mtime
        else:
            os.utime(path, ns=(mtime, mtime), follow_symlinks=False)

    @staticmethod
    def _set_xattr(path: str, name: str, value: bytes) -> None:
        # overlayfs's own attributes could make the container show what is not its own.
        if name.startswith(("trusted.", "user.overlay.")):
            return
        try:
            os.setxattr(path, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in {errno.ENOTSUP, errno.EPERM}:
                raise
