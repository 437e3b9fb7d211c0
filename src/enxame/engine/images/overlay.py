"""A container's own filesystem: an overlay of a writable directory over the image's shared layers.

    <container id>/diff      what the container wrote
    <container id>/work      overlayfs's own
    <container id>/merged    what the container sees, while mounted
    <container id>/lower     diff-ids of the layers below, lowest first, one a line

Mounts outlive the daemon. Every call may be repeated after a crash.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from enxame.engine.mount_syscalls import is_mountpoint, mount, unmount
from enxame.engine.uncancelled import to_the_end
from enxame.errors import EnxameError, InvalidArgument, NotFound

__all__ = ["ContainerLayers", "overlay_options"]

_log = logging.getLogger(__name__)
#: mount(2) copies at most one page of options, with a closing NUL.
_OPTIONS_LIMIT: Final = 4095
_CONTAINER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TRASH: Final = ".trash"


class ContainerLayers:
    """The overlays of all containers of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lower: dict[str, tuple[str, ...]] = {}
        self._index_off = ""
        # Its own threads: a mount must not queue behind whatever else blocks in the loop's default executor.
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="overlay")

    def load(self) -> None:
        """Read which containers have a filesystem and finish interrupted removals. Blocks."""
        (self._root / _TRASH).mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in (self._root / _TRASH).iterdir():
            shutil.rmtree(leftover, ignore_errors=True)
        self._lower.clear()
        for directory in self._root.iterdir():
            lower = directory / "lower"
            if lower.is_file():
                self._lower[directory.name] = tuple(lower.read_text().split())
        self._index_off = "index=off," if Path("/sys/module/overlay/parameters/index").exists() else ""

    def close(self) -> None:
        """Stop the threads; containers' mounts stay."""
        self._pool.shutdown(wait=True)

    def layers_in_use(self) -> set[str]:
        """Diff-ids of layers below any container."""
        return {diff_id for lower in self._lower.values() for diff_id in lower}

    def lower(self, container_id: str) -> tuple[str, ...] | None:
        """The diff-ids below a container, lowest first; None when it has no filesystem."""
        return self._lower.get(container_id)

    def directory(self, container_id: str) -> Path:
        """The container's place here.

        Raises:
            InvalidArgument: the id could not be a directory's name.
        """
        if not _CONTAINER_ID.fullmatch(container_id):
            raise InvalidArgument(f"invalid container id {container_id!r}")
        return self._root / container_id

    async def mount(self, container_id: str, diff_ids: Sequence[str], directories: list[Path]) -> str:
        """Mount the container's overlay, made on first use. ``directories`` are the layers of ``diff_ids``.
        Returns the merged directory.

        Raises:
            NotFound: a layer is missing.
            EnxameError: the kernel refused.
        """
        home = self.directory(container_id)
        self._lower[container_id] = tuple(diff_ids)  # first: from here on the layers may not be collected
        return await to_the_end(lambda: self._mount(home, diff_ids, directories), self._pool)

    def _mount(self, home: Path, diff_ids: Sequence[str], directories: list[Path]) -> str:
        merged = str(home / "merged")
        if is_mountpoint(merged):
            return merged
        try:
            if not (home / "lower").exists():
                self._make(home, diff_ids, directories)
            _mount_overlay([str(path) for path in reversed(directories)], home, self._index_off)
        except FileNotFoundError as error:
            raise NotFound(f"layer does not exist: {error.filename}") from error
        except OSError as error:
            raise EnxameError(
                f"error creating overlay mount to {merged}: {(error.strerror or str(error)).lower()}"
            ) from error
        return merged

    @staticmethod
    def _make(home: Path, diff_ids: Sequence[str], directories: list[Path]) -> None:
        home.mkdir(mode=0o710, exist_ok=True)
        diff = home / "diff"
        for path, mode in ((diff, 0o755), (home / "work", 0o700), (home / "merged", 0o700)):
            path.mkdir(mode=mode, exist_ok=True)
        if directories:  # the root directory looks as the image's does
            seen = directories[-1].stat()
            os.chown(diff, seen.st_uid, seen.st_gid)
            diff.chmod(seen.st_mode & 0o7777)
        draft = home / ".lower"
        draft.write_text("\n".join(diff_ids))
        draft.rename(home / "lower")

    async def unmount(self, container_id: str) -> None:
        """Unmount the container's overlay, if it is mounted.

        Raises:
            EnxameError: the kernel refused.
        """
        merged = str(self.directory(container_id) / "merged")
        try:
            await to_the_end(lambda: unmount(merged), self._pool)
        except OSError as error:
            raise EnxameError(f"cannot unmount {merged}: {error.strerror}") from error

    async def delete(self, container_id: str) -> tuple[str, ...]:
        """Remove the container's filesystem, if there is one. Returns the diff-ids that were below it.

        Raises:
            EnxameError: the kernel or the disk refused; what is left can be removed by asking again.
        """
        await self.unmount(container_id)
        home = self.directory(container_id)
        try:
            await to_the_end(lambda: self._delete(home), self._pool)
        except OSError as error:
            raise EnxameError(f"cannot remove the filesystem of container {container_id}: {error}") from error
        return self._lower.pop(container_id, ())

    def _delete(self, home: Path) -> None:
        grave = self._root / _TRASH / secrets.token_hex(8)
        try:
            home.rename(grave)
        except FileNotFoundError:
            return
        shutil.rmtree(grave)


def overlay_options(lower: list[str], home: Path, extra: str = "") -> str:
    """The options of an overlay mount; ``lower`` topmost first. Commas and colons in paths are escaped."""
    joined = ":".join(_escaped(path) for path in lower)
    return f"{extra}lowerdir={joined},upperdir={_escaped(str(home / 'diff'))},workdir={_escaped(str(home / 'work'))}"


def _escaped(path: str) -> str:
    return re.sub(r"([\\:,])", r"\\\1", path)


def _mount_overlay(lower: list[str], home: Path, extra: str) -> None:
    options = overlay_options(lower, home, extra)
    if len(os.fsencode(options)) <= _OPTIONS_LIMIT:
        for path in lower:
            os.lstat(path)  # the kernel would not say which is missing
        mount("overlay", str(home / "merged"), "overlay", 0, options)
        return
    # Too long for the page: name the layers by open descriptors, sixteen characters each.
    descriptors: list[int] = []
    try:
        for path in lower:
            descriptors.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))  # noqa: PERF401 - closed below
        options = overlay_options([f"/proc/self/fd/{number}" for number in descriptors], home, extra)
        mount("overlay", str(home / "merged"), "overlay", 0, options)
    finally:
        for number in descriptors:
            os.close(number)
