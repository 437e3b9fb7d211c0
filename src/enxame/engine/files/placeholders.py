"""Empty files and directories that only are there to be mounted on: Docker keeps them in a layer below the container's
own, so that no client expects to see them as changes. Imports nothing: the confined worker uses it, too.
"""

from __future__ import annotations

__all__ = ["DIRECTORIES", "FILES"]

#: Paths with a leading slash.
FILES = frozenset(
    {"/.dockerenv", "/dev/console", "/dev/init", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf"}
    | {"/sbin/docker-init"}
)
DIRECTORIES = frozenset({"/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/proc", "/sys"})
