"""What a container has changed in its image's files: its overlay's upper directory beside the layers below."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Final

from enxame.engine.files import placeholders
from enxame.model.container_view import FilesystemChange

__all__ = ["ADDED", "DELETED", "MODIFIED", "list_changes"]

MODIFIED, ADDED, DELETED = 0, 1, 2
_OPAQUE: Final = "trusted.overlay.opaque"
_MADE: Final = placeholders.FILES | placeholders.DIRECTORIES
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def list_changes(upper: str, lower: Sequence[str]) -> list[FilesystemChange]:
    """All changes by path; directories on the way to one are modified. ``lower``: the layers, topmost first. Blocking.

    Raises:
        OSError: it cannot be read.
    """
    changes: list[FilesystemChange] = []
    # By descriptors: the container may turn a directory into a link while we look.
    descriptor = os.open(upper, _OPEN)
    try:
        _compare(descriptor, list(lower), "", changes)
    finally:
        os.close(descriptor)
    return sorted(changes, key=lambda change: change.path)


def _compare(upper: int, lower: list[str], path: str, changes: list[FilesystemChange]) -> bool:
    """Whether anything in the directory, or below it, has changed."""
    before = len(changes)
    names = os.listdir(upper)
    for name in names:
        _compare_entry(upper, name, lower, f"{path}/{name}", changes)
    if lower and _is_opaque(upper):
        gone = {name for directory in lower for name in os.listdir(directory)} - set(names)
        changes += [
            FilesystemChange(path=f"{path}/{name}", kind=DELETED) for name in gone if _find(lower, name) is not None
        ]
    return len(changes) > before


def _compare_entry(upper: int, name: str, lower: list[str], path: str, changes: list[FilesystemChange]) -> None:
    try:
        info = os.stat(name, dir_fd=upper, follow_symlinks=False)
    except FileNotFoundError:
        return
    below = _find(lower, name)
    if _is_whiteout(info):
        if below is not None:
            changes.append(FilesystemChange(path=path, kind=DELETED))
        return
    if below is None and placeholders.made_for_the_container(path, info):
        return
    if not stat.S_ISDIR(info.st_mode):
        changes.append(FilesystemChange(path=path, kind=ADDED if below is None else MODIFIED))
        return
    try:
        descriptor = os.open(name, _OPEN, dir_fd=upper)
    except OSError:  # it is no directory any more
        return
    try:
        directories = _directories(lower, name) if below is not None and stat.S_ISDIR(below.st_mode) else []
        changed = _compare(descriptor, directories, path, changes)
        mounted_on = any(f"{path}/{base}" in _MADE for base in os.listdir(descriptor))
    finally:
        os.close(descriptor)
    if below is None:
        if changed or path not in placeholders.DIRECTORIES:
            changes.append(FilesystemChange(path=path, kind=ADDED))
    elif changed or not stat.S_ISDIR(below.st_mode) or _differs(info, below, times=not mounted_on):
        changes.append(FilesystemChange(path=path, kind=MODIFIED))


def _find(lower: list[str], name: str) -> os.stat_result | None:
    """What the layers show under a name."""
    for directory in lower:
        try:
            info = os.lstat(os.path.join(directory, name))
        except FileNotFoundError:
            continue
        return None if _is_whiteout(info) else info
    return None


def _directories(lower: list[str], name: str) -> list[str]:
    """The layers' directories that are seen as one under a name."""
    found = []
    for directory in lower:
        path = os.path.join(directory, name)
        try:
            info = os.lstat(path)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(info.st_mode):
            break
        found.append(path)
        if _is_opaque(path):
            break
    return found


def _is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _is_opaque(directory: int | str) -> bool:
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError:
        return False


def _differs(one: os.stat_result, other: os.stat_result, *, times: bool) -> bool:
    if times and one.st_mtime_ns != other.st_mtime_ns:
        return True
    return (one.st_mode, one.st_uid, one.st_gid) != (other.st_mode, other.st_uid, other.st_gid)
