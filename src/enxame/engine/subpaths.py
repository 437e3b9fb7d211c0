"""Parts of volumes, held by bind mounts of the daemon's own: a container that swaps a directory of the volume for a
link while another one starts gains nothing. They lie apart from what is removed as trees, so that no removal reaches
into a volume.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from enxame.engine import mount_syscalls
from enxame.errors import InvalidArgument

__all__ = ["bind_subpath", "release_subpaths", "subpath_holders"]

_BIND: Final = 0x1000 | 0x4000


def bind_subpath(root: Path, holder: str, volume: str, subpath: str) -> str:
    """Bind what is at ``subpath`` of the directory ``volume`` below ``root`` until ``holder`` gives it back; returns
    where. Blocking.

    Raises:
        InvalidArgument: nothing is there, or it is outside the volume.
        OSError: the kernel refused.
    """
    try:
        found = mount_syscalls.open_beneath(volume, subpath)
    except OSError as error:
        whole = os.path.join(volume, subpath)
        if error.errno in {errno.EXDEV, errno.ELOOP}:
            raise InvalidArgument(
                f'path concatenation escapes the base directory: base: "{volume}", subpath: "{subpath}"'
            ) from error
        raise InvalidArgument(f"cannot access path {whole}: {(error.strerror or str(error)).lower()}") from error
    try:
        home = root / holder
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = home / str(len(os.listdir(home)))
        source = f"/proc/self/fd/{found}"
        if os.path.isdir(source):
            place.mkdir(mode=0o700)
        else:
            place.touch(mode=0o600)
        mount_syscalls.mount(source, str(place), "", _BIND, "")
    finally:
        os.close(found)
    return str(place)


def release_subpaths(root: Path, holder: str) -> None:
    """Undo what was bound for a holder. Idempotent. Blocking."""
    home = root / holder
    with contextlib.suppress(FileNotFoundError):
        for place in home.iterdir():
            while mount_syscalls.unmount(str(place)):
                pass
            if place.is_dir():
                place.rmdir()
            else:
                place.unlink()
        home.rmdir()


def subpath_holders(root: Path) -> list[str]:
    """For whom something is, or was being, bound."""
    try:
        return os.listdir(root)
    except FileNotFoundError:
        return []
