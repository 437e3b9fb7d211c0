"""The control groups of local machines: all of a machine's processes are below one of its own."""

import contextlib
import os
from pathlib import Path
from typing import Final

PARENT: Final = "enxame-machines"
_ROOT: Final = Path("/sys/fs/cgroup")


def group_of(network: str, machine: str) -> str:
    """The group's path below every hierarchy's root."""
    return f"{PARENT}/{network}-{machine}"


def remove(group: str) -> None:
    """Removes the machine's (empty) group, all groups below it, and the parent after the last machine."""
    for root in (_ROOT, *_ROOT.iterdir()):
        top = root / group
        if root.is_symlink() or not top.is_dir():
            continue
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):  # still in use: the kernel says so
                os.rmdir(directory)
        with contextlib.suppress(OSError):
            top.parent.rmdir()
