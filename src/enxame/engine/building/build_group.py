"""Limits of a build: a control group of its own, which everything that it runs is born into. Blocks."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from enxame.engine import cgroups
from enxame.engine.building.options import BuildOptions
from enxame.engine.cgroups import CgroupLayout
from enxame.errors import EnxameError, InvalidArgument

__all__ = ["BuildGroup"]

_PARENT: Final = "/enxame"
_END_DEADLINE: Final = 5.0
#: Enters the groups whose files are named first, up to ``--``, and becomes the rest.
_ENTER: Final = 'while [ "$1" != -- ]; do echo $$ > "$1" || exit 1; shift; done; shift; exec "$@"'


class BuildGroup:
    """``token`` names it."""

    def __init__(self, layout: CgroupLayout, token: str) -> None:
        self._layout = layout
        self._path = f"{_PARENT}/build-{token}"

    def make(self, options: BuildOptions) -> tuple[str, ...]:
        """Make the group with the limits that a build asks for. Returns what to put before a command; empty when there
        are none.

        Raises:
            InvalidArgument, EnxameError: the kernel refuses a limit.
        """
        wanted = list(_settings(options, self._layout.version))
        if not wanted:
            return ()
        try:
            entrances = []
            for controller in dict.fromkeys(controller for controller, _, _ in wanted):
                directory = self._layout.directory(controller, self._path)
                self._ready(controller, directory)
                entrances.append(str(directory / "cgroup.procs"))
            for controller, name, value in wanted:
                self._set(controller, name, value)
        except BaseException:
            self.remove()
            raise
        return ("sh", "-c", _ENTER, "sh", *dict.fromkeys(entrances), "--")

    def _ready(self, controller: str, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if self._layout.version == 2:
                for parent in list(directory.parents)[:2][::-1]:
                    for name in ("memory", "cpu", "cpuset"):
                        with contextlib.suppress(OSError):
                            (parent / "cgroup.subtree_control").write_text(f"+{name}")
            elif controller == "cpuset":
                # A new group has no processors at all.
                for group in (directory.parent, directory):
                    for name in ("cpuset.cpus", "cpuset.mems"):
                        if not (group / name).read_text().strip():
                            (group / name).write_text((group.parent / name).read_text())
        except OSError as error:
            raise EnxameError(f"cannot limit the build: {error.strerror} {error.filename}") from error

    def _set(self, controller: str, name: str, value: str) -> None:
        path = self._layout.directory(controller, self._path) / name
        try:
            path.write_text(value)
        except FileNotFoundError:
            if "memsw" not in name and "swap" not in name:
                raise EnxameError(f"this machine's kernel does not know the limit {name}") from None
        except OSError as error:
            raise InvalidArgument(f"invalid limit of the build: {name}: {error.strerror}") from error

    def remove(self) -> None:
        """End what is left in it, and remove it. Idempotent."""
        deadline = time.monotonic() + _END_DEADLINE
        while not cgroups.remove(self._layout, self._path) and time.monotonic() < deadline:
            for pid in self._left():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)  # the kernel has no word for "this cgroup v1 group is empty now"

    def _left(self) -> list[int]:
        found: set[int] = set()
        for directory in self._layout.directories(self._path):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in (directory / "cgroup.procs").read_text().split())
        return sorted(found)


def _settings(options: BuildOptions, version: int) -> Iterator[tuple[str, str, str]]:
    """Controller, file, value."""
    if options.memory:
        swap = options.memory_swap or 2 * options.memory
        if version == 1:
            yield "memory", "memory.limit_in_bytes", str(options.memory)
            yield "memory", "memory.memsw.limit_in_bytes", str(swap)
        else:
            yield "", "memory.max", str(options.memory)
            yield "", "memory.swap.max", "max" if swap < 0 else str(max(swap - options.memory, 0))
    if options.cpu_shares:
        if version == 1:
            yield "cpu", "cpu.shares", str(options.cpu_shares)
        else:
            shares = min(max(options.cpu_shares, 2), 262_144)
            yield "", "cpu.weight", str(1 + (shares - 2) * 9999 // 262_142)
    period = options.cpu_period or 100_000
    if options.cpu_quota or options.cpu_period:
        if version == 1:
            yield "cpu", "cpu.cfs_period_us", str(period)
            if options.cpu_quota:
                yield "cpu", "cpu.cfs_quota_us", str(options.cpu_quota)
        else:
            yield "", "cpu.max", f"{options.cpu_quota if options.cpu_quota > 0 else 'max'} {period}"
    controller = "cpuset" if version == 1 else ""
    if options.cpuset_cpus:
        yield controller, "cpuset.cpus", options.cpuset_cpus
    if options.cpuset_mems:
        yield controller, "cpuset.mems", options.cpuset_mems
