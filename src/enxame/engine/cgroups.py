"""The machine's control groups: which hierarchy there is, where a container's group lies, what is in it."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


class CgroupMode(Enum):
    """``HYBRID``: version 1 controllers with an empty version 2 hierarchy beside them, at ``unified``."""

    V1 = "v1"
    HYBRID = "hybrid"
    V2 = "v2"


@dataclass(frozen=True, slots=True)
class CgroupLayout:
    """``controllers`` (v1, hybrid): mount directory of each controller, such as ``memory``."""

    mode: CgroupMode
    controllers: dict[str, Path]

    @property
    def version(self) -> int:
        """1 or 2, as ``docker info`` tells."""
        return 2 if self.mode is CgroupMode.V2 else 1

    def directory(self, controller: str, path: str) -> Path:
        """Directory of the group ``path`` (``/enxame/<id>``) under a controller; on v2 all share one."""
        return self.controllers.get(controller, ROOT / controller) / path.lstrip("/")

    def directories(self, path: str) -> list[Path]:
        """Every directory that the group ``path`` has, existing or not."""
        return sorted({mount / path.lstrip("/") for mount in self.controllers.values()})


def parse_layout(mountinfo: str) -> CgroupLayout:
    """The layout that ``/proc/self/mountinfo`` shows."""
    controllers: dict[str, Path] = {}
    unified = False
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        try:
            kind, options, where = fields[fields.index("-") + 1], fields[-1].split(","), fields[4]
        except (ValueError, IndexError):
            continue
        if kind == "cgroup2":
            if where == str(ROOT):
                return CgroupLayout(CgroupMode.V2, {"": ROOT})
            unified = True
        elif kind == "cgroup" and where.startswith(str(ROOT)):
            for name in Path(where).name.split(","):
                controllers[name] = Path(where)
            for option in options:
                if option.startswith("name="):
                    controllers[option[5:]] = Path(where)
    return CgroupLayout(CgroupMode.HYBRID if unified else CgroupMode.V1, controllers)


def detect_layout() -> CgroupLayout:
    """The layout of this machine."""
    return parse_layout(Path("/proc/self/mountinfo").read_text())


def processes(layout: CgroupLayout, path: str) -> list[int]:
    """Ids of all processes in the group and below it."""
    controller = "pids" if layout.version == 1 else ""
    found: list[int] = []
    for directory, _, files in os.walk(layout.directory(controller, path)):
        if "cgroup.procs" in files:
            try:
                found += [int(line) for line in Path(directory, "cgroup.procs").read_text().split()]
            except OSError:
                continue
    return found


def was_out_of_memory(layout: CgroupLayout, path: str) -> bool:
    """Whether the kernel killed a process of the group for want of memory."""
    directory = layout.directory("memory" if layout.version == 1 else "", path)
    name = "memory.oom_control" if layout.version == 1 else "memory.events"
    try:
        lines = (directory / name).read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in lines)


def remove(layout: CgroupLayout, path: str) -> bool:
    """Remove the (empty) group under every controller. False when something still is in it."""
    gone = True
    for directory in layout.directories(path):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in {errno.EBUSY, errno.ENOTEMPTY}:
                raise
            gone = _remove_tree(directory) and gone
    return gone


def _remove_tree(directory: Path) -> bool:
    for current, _, _ in os.walk(directory, topdown=False):
        try:
            os.rmdir(current)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
