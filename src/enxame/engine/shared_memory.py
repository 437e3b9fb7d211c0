"""``/dev/shm`` of a container that others may share: a tmpfs on the host, bound into each of them."""

from __future__ import annotations

import os
from pathlib import Path

from enxame.engine.mount_syscalls import MNT_DETACH, is_mountpoint, mount, unmount

_NAME = "shm"
_FLAGS = 2 | 4 | 8  # nosuid, nodev, noexec


def shm_directory(bundle: Path) -> Path:
    """Where a container's shared memory is while it runs."""
    return bundle / _NAME


def mount_shm(bundle: Path, size: int) -> str:
    """Mount it; returns the directory. Idempotent."""
    directory = shm_directory(bundle)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not is_mountpoint(str(directory)):
        mount("shm", str(directory), "tmpfs", _FLAGS, f"mode=1777,size={size}")
    return str(directory)


def unmount_shm(bundle: Path) -> None:
    """Unmount it; those who share it keep it until they end. Idempotent."""
    directory = shm_directory(bundle)
    if os.path.lexists(directory) and is_mountpoint(str(directory)):
        unmount(str(directory), MNT_DETACH)
