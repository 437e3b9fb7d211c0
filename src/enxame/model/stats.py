"""A container's use of resources as ``GET /containers/{id}/stats`` shows it. Names are the API's, lower case."""

from __future__ import annotations

from datetime import datetime

from msgspec import field

from enxame.model.base import ZERO_TIME, Model


class StatsModel(Model, rename="lower", omit_defaults=False):
    """Base: attribute names are the JSON names; everything is rendered."""


class CPUUsage(StatsModel):
    """Nanoseconds of processor time."""

    total_usage: int = 0
    percpu_usage: list[int] = field(default_factory=list)
    usage_in_kernelmode: int = 0
    usage_in_usermode: int = 0


class ThrottlingData(StatsModel):
    """How often and how long (ns) the CPU limit held the container back."""

    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


class CPUStats(StatsModel):
    """``system_cpu_usage``: nanoseconds of the whole machine."""

    cpu_usage: CPUUsage = field(default_factory=CPUUsage)
    system_cpu_usage: int = 0
    online_cpus: int = 0
    throttling_data: ThrottlingData = field(default_factory=ThrottlingData)


class MemoryStats(StatsModel):
    """Bytes; ``stats`` is the kernel's memory.stat."""

    usage: int = 0
    max_usage: int = 0
    stats: dict[str, int] = field(default_factory=dict)
    failcnt: int = 0
    limit: int = 0


class PidsStats(StatsModel):
    """Number of tasks."""

    current: int = 0
    limit: int = 0


class BlkioEntry(StatsModel):
    """Bytes of one operation on one device."""

    major: int = 0
    minor: int = 0
    op: str = ""
    value: int = 0


class BlkioStats(StatsModel):
    """Block I/O."""

    io_service_bytes_recursive: list[BlkioEntry] = field(default_factory=list)
    io_serviced_recursive: list[BlkioEntry] = field(default_factory=list)


class NetworkStats(StatsModel):
    """One interface in the container."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


class ContainerStats(StatsModel):
    """One sample; ``precpu_stats`` is the sample before it."""

    name: str = ""
    id: str = ""
    read: datetime = ZERO_TIME
    preread: datetime = ZERO_TIME
    num_procs: int = 0
    pids_stats: PidsStats = field(default_factory=PidsStats)
    cpu_stats: CPUStats = field(default_factory=CPUStats)
    precpu_stats: CPUStats = field(default_factory=CPUStats)
    memory_stats: MemoryStats = field(default_factory=MemoryStats)
    blkio_stats: BlkioStats = field(default_factory=BlkioStats)
    networks: dict[str, NetworkStats] = field(default_factory=dict)
