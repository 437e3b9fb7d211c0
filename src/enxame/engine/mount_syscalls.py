"""mount(2) and its relatives, called directly: a ``mount`` process costs some 3 ms, the call half of one. They block:
call them from a thread where the filesystem may be busy.
"""

from __future__ import annotations

import ctypes
import os
import re
from functools import cache
from typing import Final

__all__ = [
    "MNT_DETACH",
    "MS_FLAGS",
    "bind",
    "is_mounted",
    "is_mountpoint",
    "mount",
    "open_beneath",
    "open_in_root",
    "syncfs",
    "unmount",
]

MNT_DETACH: Final = 2
_SYS_OPENAT2: Final = 437
_SYS_OPEN_TREE: Final = 428
_SYS_MOVE_MOUNT: Final = 429
_SYS_MOUNT_SETATTR: Final = 442
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE, _FROM_EMPTY_PATH = -100, 0x1000, 0x8000, 0x4
_MS_REC: Final = 0x4000
_ATTRIBUTE_ATIME: Final = 0x70
#: Flags of mount(2) as mount_setattr(2) knows them: ro, nosuid, nodev, noexec, noatime, nodiratime, strictatime.
_ATTRIBUTES: Final = {1: 1, 2: 2, 4: 4, 8: 8, 1024: 0x10, 2048: 0x80, 1 << 24: 0x20}
_RESOLVE_IN_ROOT: Final = 0x10
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_BENEATH: Final = 0x08

#: Mount options that are flags of mount(2): name to (bits, whether the option sets or clears them).
MS_FLAGS: Final[dict[str, tuple[int, bool]]] = {
    "defaults": (0, True),
    "ro": (1, True),
    "rw": (1, False),
    "nosuid": (2, True),
    "suid": (2, False),
    "nodev": (4, True),
    "dev": (4, False),
    "noexec": (8, True),
    "exec": (8, False),
    "sync": (16, True),
    "async": (16, False),
    "remount": (32, True),
    "mand": (64, True),
    "nomand": (64, False),
    "dirsync": (128, True),
    "noatime": (1024, True),
    "atime": (1024, False),
    "nodiratime": (2048, True),
    "diratime": (2048, False),
    "bind": (4096, True),
    "rbind": (4096 | 16384, True),
    "relatime": (1 << 21, True),
    "norelatime": (1 << 21, False),
    "strictatime": (1 << 24, True),
    "nostrictatime": (1 << 24, False),
    "unbindable": (1 << 17, True),
    "private": (1 << 18, True),
    "slave": (1 << 19, True),
    "shared": (1 << 20, True),
}


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, fstype: str, flags: int, data: str) -> None:
    """Mount ``source`` of type ``fstype`` on ``target``.

    Raises:
        OSError: with the kernel's errno and the target.
    """
    result = _libc().mount(
        os.fsencode(source), os.fsencode(target), os.fsencode(fstype), ctypes.c_ulong(flags), os.fsencode(data) or None
    )
    _check(result, target)


def bind(source: str, target: str, flags: int) -> None:
    """Bind ``source`` on ``target`` with the mount flags ``flags`` (``MS_RDONLY`` …) from its first moment on, so that
    other mount namespaces get it with them. MS_REC: all below, too.

    Raises:
        OSError: with the kernel's errno and the target.
    """
    recursive = _AT_RECURSIVE if flags & _MS_REC else 0
    tree = _libc().syscall(
        ctypes.c_long(_SYS_OPEN_TREE), _AT_FDCWD, os.fsencode(source), ctypes.c_uint(1 | os.O_CLOEXEC | recursive)
    )
    _check(tree, source)
    try:
        bits = sum(attribute for flag, attribute in _ATTRIBUTES.items() if flags & flag)
        if bits:
            wanted = (ctypes.c_uint64 * 4)(bits, _ATTRIBUTE_ATIME if bits & _ATTRIBUTE_ATIME else 0, 0, 0)
            changed = _libc().syscall(
                *(ctypes.c_long(_SYS_MOUNT_SETATTR), tree, b"", ctypes.c_uint(_AT_EMPTY_PATH | recursive)),
                *(ctypes.byref(wanted), ctypes.c_size_t(ctypes.sizeof(wanted))),
            )
            _check(changed, target)
        moved = _libc().syscall(
            ctypes.c_long(_SYS_MOVE_MOUNT), tree, b"", _AT_FDCWD, os.fsencode(target), ctypes.c_uint(_FROM_EMPTY_PATH)
        )
        _check(moved, target)
    finally:
        os.close(tree)


def unmount(target: str, flags: int = MNT_DETACH) -> bool:
    """umount2(2). Returns False when nothing was mounted there (or the directory is gone): asking twice is no error.

    Raises:
        OSError: the kernel refused for another reason.
    """
    if _libc().umount2(os.fsencode(target), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in {22, 2}:  # EINVAL: not a mount point; ENOENT
        return False
    raise OSError(number, os.strerror(number), target)


def is_mountpoint(path: str) -> bool:
    """Whether another filesystem is mounted on the directory (bind mounts of the same filesystem do not count)."""
    try:
        return os.lstat(path).st_dev != os.lstat(os.path.dirname(path)).st_dev
    except FileNotFoundError:
        return False


def is_mounted(path: str) -> bool:
    """Whether anything is mounted on the directory, bind mounts included; reads the mount table."""
    wanted = os.path.realpath(path)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return any(_unescaped(line.split(" ", 5)[4]) == wanted for line in table)


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field) if "\\" in field else field


def open_in_root(root: str, path: str) -> int:
    """Open ``path`` (O_PATH) as a process confined to ``root`` would: links and ``..`` never lead out of it.

    Returns a descriptor that the caller closes.

    Raises:
        OSError: nothing there, or the kernel refused.
    """
    return _open(root, path, _RESOLVE_IN_ROOT)


def open_beneath(root: str, path: str) -> int:
    """Open ``path`` (O_PATH) below ``root``. Returns a descriptor that the caller closes.

    Raises:
        OSError: nothing there; EXDEV: a link or ``..`` leads out of ``root``.
    """
    return _open(root, path, _RESOLVE_BENEATH)


def _open(root: str, path: str, resolve: int) -> int:
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, resolve | _RESOLVE_NO_MAGICLINKS)
        result: int = _libc().syscall(
            ctypes.c_long(_SYS_OPENAT2),
            directory,
            os.fsencode(path),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        _check(result, path)
        return result
    finally:
        os.close(directory)


def syncfs(path: str) -> None:
    """Make all that was written to the filesystem of ``path`` durable.

    Raises:
        OSError: the disk failed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc().syncfs(descriptor), path)
    finally:
        os.close(descriptor)


def _check(result: int, path: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
