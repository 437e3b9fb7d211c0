"""The machine's control groups: which hierarchy there is, where a container's group lies, what is in it."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from enxame.errors import EnxameError

ROOT = Path("/sys/fs/cgroup")


_FREEZE_DEADLINE = 5.0


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


def lift_pids_limit(layout: CgroupLayout, path: str) -> None:
    """Let the group have as many processes as it likes. Runtimes do not know how to say that. Raises OSError."""
    (layout.directory("pids" if layout.version == 1 else "", path) / "pids.max").write_text("max")


def freeze(layout: CgroupLayout, path: str) -> None:
    """Stop all processes of the group where they are. Blocking: it takes as long as their system calls.

    Raises:
        EnxameError: they cannot be stopped; they go on.
    """
    deadline = time.monotonic() + _FREEZE_DEADLINE
    try:
        while not _frozen(layout, path):
            _set_frozen(layout, path, wanted=True)
            if time.monotonic() > deadline:
                thaw(layout, path)
                raise EnxameError(f"the processes of {path} do not freeze within {_FREEZE_DEADLINE:.0f} s")
            if not _frozen(layout, path):
                time.sleep(0.001)  # version 1 has no word for "frozen now"
    except OSError as error:
        raise EnxameError(f"cannot freeze {path}: {error.strerror}") from error


def thaw(layout: CgroupLayout, path: str) -> None:
    """Let the processes of the group go on; fine when it is gone.

    Raises:
        EnxameError: the kernel refused.
    """
    try:
        _set_frozen(layout, path, wanted=False)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ENODEV:  # it went while the file was open
            raise EnxameError(f"cannot thaw {path}: {error.strerror}") from error


def _set_frozen(layout: CgroupLayout, path: str, *, wanted: bool) -> None:
    if layout.version == 2:
        (layout.directory("", path) / "cgroup.freeze").write_text("1" if wanted else "0")
    else:
        (layout.directory("freezer", path) / "freezer.state").write_text("FROZEN" if wanted else "THAWED")


def _frozen(layout: CgroupLayout, path: str) -> bool:
    if layout.version == 2:
        return "frozen 1" in (layout.directory("", path) / "cgroup.events").read_text()
    return (layout.directory("freezer", path) / "freezer.state").read_text().strip() == "FROZEN"


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


def remove_parent(layout: CgroupLayout, path: str) -> None:
    """Remove a group that others lie in, where nothing does any more; not those that others may just be making."""
    for directory in layout.directories(path):
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def _remove_tree(directory: Path) -> bool:
    for current, _, _ in os.walk(directory, topdown=False):
        try:
            os.rmdir(current)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
