"""Filling a new volume with what the image has at its place."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Final

from enxame.engine import mount_syscalls
from enxame.engine.children import PIPE, child
from enxame.errors import EnxameError

__all__ = ["fill", "has_source"]

#: Seconds for copying an image's files into a new volume.
_COPY_DEADLINE: Final = 600.0


async def fill(target: Path, source_dir: str, *, root: str | None, draft: Path | None) -> bool:
    """Copy a directory into the empty ``target``; returns False where there is nothing to copy from, or something in
    ``target`` already. ``draft``, a new path on the same filesystem, takes the target's place in one step; None copies
    in place, for targets that are in use.

    Raises:
        EnxameError: the copy failed; the target is empty again.
        OSError: the disk refused.
    """
    source = await asyncio.to_thread(_open_source, source_dir, root)
    if source is None:
        return False
    try:
        if await asyncio.to_thread(_has_entries, target):
            return False
        if draft is None:
            await _fill_in_place(source, target)
        else:
            await _fill_aside(source, draft, target)
    finally:
        os.close(source)
    return True


def has_source(source_dir: str, root: str | None) -> bool:
    """Whether there is a directory to copy. Blocking."""
    found = _open_source(source_dir, root)
    if found is not None:
        os.close(found)
    return found is not None


async def _fill_aside(source: int, draft: Path, target: Path) -> None:
    try:
        await asyncio.to_thread(draft.mkdir, 0o755)
        await _copy(source, draft)
        await asyncio.to_thread(os.rename, draft, target)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True))
        raise


async def _fill_in_place(source: int, target: Path) -> None:
    try:
        await _copy(source, target)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(_empty, target))
        raise


async def _copy(source: int, target: Path) -> None:
    try:
        async with (
            asyncio.timeout(_COPY_DEADLINE),
            child(
                *("cp", "-a", "--reflink=auto", "--", f"/proc/self/fd/{source}/.", f"{target}/"),
                stderr=PIPE,
                inherit=(source,),
            ) as process,
        ):
            _, errors = await process.communicate()
    except TimeoutError as error:
        raise EnxameError(f"copying took longer than {_COPY_DEADLINE:.0f} s") from error
    if process.returncode != 0:
        raise EnxameError((errors.decode(errors="replace").strip() or "cp failed").splitlines()[0])


def _open_source(source_dir: str, root: str | None) -> int | None:
    """A descriptor of the directory to copy; None where the image has no directory there."""
    try:
        if root is not None:
            descriptor = mount_syscalls.open_in_root(root, source_dir)
        else:
            descriptor = os.open(source_dir, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if os.path.isdir(f"/proc/self/fd/{descriptor}"):
        return descriptor
    os.close(descriptor)
    return None


def _has_entries(path: Path) -> bool:
    with os.scandir(path) as entries:
        return next(entries, None) is not None


def _empty(path: Path) -> None:
    for entry in os.scandir(path):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)
