"""Empty files and directories that only are there to be mounted on, and what old programs look for: Docker keeps them
in a layer below the container's own, so that no client expects to see them as changes. The confined worker
uses it, too.
"""

from __future__ import annotations

import os
import stat

__all__ = ["DIRECTORIES", "FILES", "MOUNT_TABLE", "made_for_the_container"]

#: A link to what the kernel tells.
MOUNT_TABLE = "/etc/mtab"

#: Paths with a leading slash.
FILES = frozenset(
    {"/.dockerenv", "/dev/console", "/dev/init", "/etc/hostname", "/etc/hosts", MOUNT_TABLE, "/etc/resolv.conf"}
    | {"/sbin/docker-init"}
)
DIRECTORIES = frozenset({"/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/proc", "/sys"})


def made_for_the_container(path: str, info: os.stat_result) -> bool:
    """Whether it is one of the files, as it was made."""
    if path not in FILES:
        return False
    return not info.st_size if stat.S_ISREG(info.st_mode) else path == MOUNT_TABLE and stat.S_ISLNK(info.st_mode)
