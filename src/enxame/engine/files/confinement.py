"""Enters a container's filesystem for good: from then on this process sees nothing else. Runs in the worker.

What it enters is a private copy of the container's mounts without devices: a file that a container turns into a device
node between our look and our open cannot be opened.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any, Final

__all__ = ["enter_process", "enter_tree"]

_NEW_MOUNTS: Final = 0x00020000
_SYS_OPEN_TREE: Final = 428
_SYS_MOVE_MOUNT: Final = 429
_SYS_MOUNT_SETATTR: Final = 442
_CLONE, _RECURSIVE, _CLOEXEC = 1, 0x8000, os.O_CLOEXEC
_EMPTY_PATH, _FROM_EMPTY_PATH = 0x1000, 0x4
_AT_FDCWD: Final = -100
_READ_ONLY, _NO_DEVICES = 0x1, 0x4
_PRIVATE: Final = 1 << 18
_DETACH, _NO_FOLLOW = 2, 8
#: What the runtime mounts into every container: nobody's files, and not to be read as such.
_RUNTIMES: Final = frozenset({("/proc", "proc"), ("/sys", "sysfs"), ("/dev", "tmpfs")})


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns", ctypes.c_uint64),
    )


def enter_process(pid: int, start: int) -> None:
    """See what process ``pid`` sees but for the kernel's own filesystems. ``start``: the process's start in clock ticks
    since boot, which tells it from a later one.

    Raises:
        OSError: it has gone.
    """
    mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        if int(file.read().rpartition(")")[2].split()[19]) != start:
            raise ProcessLookupError(3, "No such process")
    not_files = _mounted_by_the_runtime(pid)
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.setns(mounts, _NEW_MOUNTS), "setns")
    os.fchdir(root)
    os.chroot(".")
    os.chdir("/")
    _check(libc.unshare(_NEW_MOUNTS), "unshare")
    _set_attributes(libc, _AT_FDCWD, b"/", _Attributes(set=_NO_DEVICES, propagation=_PRIVATE), _RECURSIVE)
    for path in not_files:
        _check(libc.umount2(os.fsencode(path), _DETACH | _NO_FOLLOW), path)
    _forget_the_host()


def _mounted_by_the_runtime(pid: int) -> list[str]:
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split() for line in file]
    found = [(words[4], words[words.index("-") + 1]) for words in lines]
    return [path for path, kind in found if (path, kind) in _RUNTIMES]


def enter_tree(root: str, mounts: list[dict[str, Any]], *, read_only: bool = False) -> None:
    """See the directory ``root`` with ``mounts`` in it: ``source``, ``destination``, ``read_only`` each, parents first.

    Mount points that are missing are made, as a start would make them. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(_NEW_MOUNTS), "unshare")
    _set_attributes(libc, _AT_FDCWD, b"/", _Attributes(propagation=_PRIVATE), _RECURSIVE)
    trees = [(_clone(libc, mount["source"]), mount) for mount in mounts if os.path.lexists(mount["source"])]
    whole = _clone(libc, root)
    _set_attributes(libc, whole, b"", _Attributes(set=_NO_DEVICES), _EMPTY_PATH | _RECURSIVE)
    _move(libc, whole, root)
    os.chroot(root)
    os.chdir("/")
    for tree, mount in trees:
        bits = _NO_DEVICES | (_READ_ONLY if mount["read_only"] else 0)
        _set_attributes(libc, tree, b"", _Attributes(set=bits), _EMPTY_PATH | _RECURSIVE)
        _make_mount_point(mount["destination"], directory=_is_directory(tree))
        _move(libc, tree, mount["destination"])
    if read_only:
        _set_attributes(libc, _AT_FDCWD, b"/", _Attributes(set=_READ_ONLY), 0)
    _forget_the_host()


def _is_directory(tree: int) -> bool:
    return os.fstat(tree).st_mode & 0o170000 == 0o040000


def _clone(libc: ctypes.CDLL, source: str) -> int:
    tree: int = libc.syscall(
        ctypes.c_long(_SYS_OPEN_TREE), _AT_FDCWD, os.fsencode(source), ctypes.c_uint(_CLONE | _RECURSIVE | _CLOEXEC)
    )
    _check(tree, source)
    return tree


def _move(libc: ctypes.CDLL, tree: int, target: str) -> None:
    moved = libc.syscall(
        ctypes.c_long(_SYS_MOVE_MOUNT), tree, b"", _AT_FDCWD, os.fsencode(target), ctypes.c_uint(_FROM_EMPTY_PATH)
    )
    _check(moved, target)
    os.close(tree)


def _set_attributes(libc: ctypes.CDLL, directory: int, path: bytes, wanted: _Attributes, flags: int) -> None:
    done = libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        directory,
        path,
        ctypes.c_uint(flags),
        ctypes.byref(wanted),
        ctypes.c_size_t(ctypes.sizeof(wanted)),
    )
    _check(done, path.decode())


def _make_mount_point(path: str, *, directory: bool) -> None:
    if os.path.lexists(path):
        return
    os.makedirs(path if directory else os.path.dirname(path), exist_ok=True)
    if not directory:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _forget_the_host() -> None:
    """From here on the container's files must not become this program's: nothing is imported any more."""
    sys.path.clear()
    sys.meta_path.clear()


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
