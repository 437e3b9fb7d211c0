"""A container's use of resources, read from its control groups (v1 and v2) and its network namespace."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from enxame.engine.cgroups import CgroupLayout
from enxame.model.stats import (
    BlkioEntry,
    BlkioStats,
    ContainerStats,
    CPUStats,
    CPUUsage,
    MemoryStats,
    NetworkStats,
    PidsStats,
    ThrottlingData,
)

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_NO_LIMIT = 2**62


def read_stats(layout: CgroupLayout, path: str, pid: int, before: ContainerStats) -> ContainerStats:
    """One sample of the group ``path``; ``before`` is the last one (its name and id are kept). Blocking."""
    cpu, memory, pids, blkio = _read_v2(layout, path) if layout.version == 2 else _read_v1(layout, path)
    return ContainerStats(
        name=before.name,
        id=before.id,
        read=datetime.now(UTC),
        preread=before.read,
        pids_stats=pids,
        cpu_stats=cpu,
        precpu_stats=before.cpu_stats,
        memory_stats=memory,
        blkio_stats=blkio,
        networks=parse_net_dev(_text(Path(f"/proc/{pid}/net/dev"))),
    )


def _read_v1(layout: CgroupLayout, path: str) -> tuple[CPUStats, MemoryStats, PidsStats, BlkioStats]:
    cpuacct, cpu = layout.directory("cpuacct", path), layout.directory("cpu", path)
    memory, pids, blkio = (layout.directory(name, path) for name in ("memory", "pids", "blkio"))
    stat = parse_pairs(_text(cpuacct / "cpuacct.stat"))
    throttled = parse_pairs(_text(cpu / "cpu.stat"))
    cpu_stats = CPUStats(
        cpu_usage=CPUUsage(
            total_usage=_number(cpuacct / "cpuacct.usage"),
            percpu_usage=[int(text) for text in _text(cpuacct / "cpuacct.usage_percpu").split()],
            usage_in_kernelmode=stat.get("system", 0) * _TICK,
            usage_in_usermode=stat.get("user", 0) * _TICK,
        ),
        system_cpu_usage=system_cpu(_text(Path("/proc/stat"))),
        online_cpus=os.cpu_count() or 1,
        throttling_data=ThrottlingData(
            periods=throttled.get("nr_periods", 0),
            throttled_periods=throttled.get("nr_throttled", 0),
            throttled_time=throttled.get("throttled_time", 0),
        ),
    )
    memory_stats = MemoryStats(
        usage=_number(memory / "memory.usage_in_bytes"),
        max_usage=_number(memory / "memory.max_usage_in_bytes"),
        stats=parse_pairs(_text(memory / "memory.stat")),
        failcnt=_number(memory / "memory.failcnt"),
        limit=_limit(_number(memory / "memory.limit_in_bytes")),
    )
    return (
        cpu_stats,
        memory_stats,
        _pids(pids),
        BlkioStats(
            io_service_bytes_recursive=parse_blkio(_text(blkio / "blkio.throttle.io_service_bytes")),
            io_serviced_recursive=parse_blkio(_text(blkio / "blkio.throttle.io_serviced")),
        ),
    )


def _read_v2(layout: CgroupLayout, path: str) -> tuple[CPUStats, MemoryStats, PidsStats, BlkioStats]:
    group = layout.directory("", path)
    stat = parse_pairs(_text(group / "cpu.stat"))
    cpu_stats = CPUStats(
        cpu_usage=CPUUsage(
            total_usage=stat.get("usage_usec", 0) * 1000,
            usage_in_kernelmode=stat.get("system_usec", 0) * 1000,
            usage_in_usermode=stat.get("user_usec", 0) * 1000,
        ),
        system_cpu_usage=system_cpu(_text(Path("/proc/stat"))),
        online_cpus=os.cpu_count() or 1,
        throttling_data=ThrottlingData(
            periods=stat.get("nr_periods", 0),
            throttled_periods=stat.get("nr_throttled", 0),
            throttled_time=stat.get("throttled_usec", 0) * 1000,
        ),
    )
    memory_stats = MemoryStats(
        usage=_number(group / "memory.current"),
        stats=parse_pairs(_text(group / "memory.stat")),
        limit=_limit(_number(group / "memory.max")),
    )
    entries: list[BlkioEntry] = []
    for line in _text(group / "io.stat").splitlines():
        device, *fields = line.split()
        major, _, minor = device.partition(":")
        values = dict(field.split("=") for field in fields if "=" in field)
        entries += [
            BlkioEntry(major=int(major), minor=int(minor), op=op, value=int(values[key]))
            for op, key in (("read", "rbytes"), ("write", "wbytes"))
            if key in values
        ]
    return cpu_stats, memory_stats, _pids(group), BlkioStats(io_service_bytes_recursive=entries)


def _pids(group: Path) -> PidsStats:
    return PidsStats(current=_number(group / "pids.current"), limit=_number(group / "pids.max"))


def _limit(value: int) -> int:
    """No limit of its own is the machine's memory."""
    if 0 < value < _NO_LIMIT:
        return value
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0


def parse_pairs(text: str) -> dict[str, int]:
    """``name number`` lines."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def parse_blkio(text: str) -> list[BlkioEntry]:
    """``8:0 Read 4096`` lines of version 1."""
    entries = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3:
            major, _, minor = fields[0].partition(":")
            entries.append(BlkioEntry(major=int(major), minor=int(minor), op=fields[1], value=int(fields[2])))
    return entries


def system_cpu(proc_stat: str) -> int:
    """Nanoseconds of all processors since boot, idle included, from ``/proc/stat``."""
    for line in proc_stat.splitlines():
        if line.startswith("cpu "):
            return sum(int(field) for field in line.split()[1:8]) * _TICK
    return 0


def parse_net_dev(text: str) -> dict[str, NetworkStats]:
    """Interfaces of ``/proc/<pid>/net/dev``, without the loopback."""
    found: dict[str, NetworkStats] = {}
    for line in text.splitlines()[2:]:
        name, _, numbers = line.partition(":")
        values = [int(number) for number in numbers.split()]
        if name.strip() != "lo" and len(values) >= 12:
            found[name.strip()] = NetworkStats(
                rx_bytes=values[0],
                rx_packets=values[1],
                rx_errors=values[2],
                rx_dropped=values[3],
                tx_bytes=values[8],
                tx_packets=values[9],
                tx_errors=values[10],
                tx_dropped=values[11],
            )
    return found
