"""Which limits this machine's kernel knows: what it does not is left out, with Docker's warning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enxame.engine.cgroups import ROOT, CgroupLayout

__all__ = ["KernelLimits", "parse_numbers", "read_kernel_limits"]


@dataclass(frozen=True, slots=True)
class KernelLimits:
    """``swap``: memory and swap can be limited together. ``cpus`` and ``mems`` are the numbers of processors and memory
    nodes that containers may use; empty: not known. ``cgroup_version``: 1 or 2.
    """

    cgroup_version: int = 1
    swap: bool = True
    blkio_weight: bool = True
    blkio_weight_device: bool = True
    cpu_realtime: bool = False
    cpus: frozenset[int] = frozenset()
    mems: frozenset[int] = frozenset()


def read_kernel_limits(layout: CgroupLayout) -> KernelLimits:
    """Those of this machine."""
    if layout.version == 2:
        weight = any(ROOT.glob("*/io.weight")) or any(ROOT.glob("*/io.bfq.weight"))
        return KernelLimits(
            cgroup_version=2,
            swap=any(ROOT.glob("*/memory.swap.max")),
            blkio_weight=weight,
            blkio_weight_device=weight,
            cpus=_numbers(ROOT / "cpuset.cpus.effective"),
            mems=_numbers(ROOT / "cpuset.mems.effective"),
        )
    blkio, cpuset = layout.directory("blkio", ""), layout.directory("cpuset", "")
    return KernelLimits(
        swap=(layout.directory("memory", "") / "memory.memsw.limit_in_bytes").exists(),
        blkio_weight=_any(blkio, "blkio.weight", "blkio.bfq.weight"),
        blkio_weight_device=_any(blkio, "blkio.weight_device", "blkio.bfq.weight_device"),
        cpu_realtime=_any(layout.directory("cpu", ""), "cpu.rt_runtime_us"),
        cpus=_numbers(cpuset / "cpuset.cpus"),
        mems=_numbers(cpuset / "cpuset.mems"),
    )


def _any(directory: Path, *names: str) -> bool:
    return any((directory / name).exists() for name in names)


def _numbers(path: Path) -> frozenset[int]:
    try:
        return parse_numbers(path.read_text().strip())
    except (OSError, ValueError):
        return frozenset()


def parse_numbers(text: str) -> frozenset[int]:
    """``0-2,5`` as numbers. Raises ValueError when it is no such list."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if int(last or first) > 1 << 16:
            raise ValueError(text)
        found.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(found)
