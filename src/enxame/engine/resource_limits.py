"""Checks the limits that a client asks for: those that make no sense are refused, those that this kernel does not know
are left out with a warning, in Docker's words. Pure.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from enxame.engine.kernel_limits import KernelLimits, parse_numbers
from enxame.errors import InvalidArgument
from enxame.model.container import HostConfig

__all__ = ["possible_limits"]

_LEAST_MEMORY = 6 << 20
_LEAST_CPU_PERIOD, _GREATEST_CPU_PERIOD, _LEAST_CPU_QUOTA = 1_000, 1_000_000, 1_000


def possible_limits(host: HostConfig, warnings: list[str], kernel: KernelLimits) -> HostConfig:
    """The host config without what this kernel cannot do; of that ``warnings`` tell.

    Raises:
        InvalidArgument: limits that make no sense.
    """
    _check_memory(host)
    _check_cpu(host, kernel)
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    for device in host.blkio_weight_device or []:
        if not 10 <= device.weight <= 1000:
            raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    if host.memory and not kernel.swap:
        warnings.append(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
            "Memory limited without swap."
        )
    if host.oom_kill_disable and not host.memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
            "running out of resources."
        )
    if host.blkio_weight and not kernel.blkio_weight:
        warnings.append("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
        host = replace(host, blkio_weight=0)
    if host.blkio_weight_device and not kernel.blkio_weight_device:
        warnings.append(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. "
            "Weight-device discarded."
        )
        host = replace(host, blkio_weight_device=None)
    return host


def _check_memory(host: HostConfig) -> None:
    if host.memory < 0 or 0 < host.memory < _LEAST_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if host.memory_swap > 0 and not host.memory:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
    if 0 < host.memory_swap < host.memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if host.memory and host.memory_reservation > host.memory:
        raise InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")
    if 0 < host.memory_reservation < _LEAST_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    swappiness = host.memory_swappiness
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise InvalidArgument(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")


def _check_cpu(host: HostConfig, kernel: KernelLimits) -> None:
    if host.nano_cpus and (host.cpu_period or host.cpu_quota):
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    cores = len(kernel.cpus) or 1
    if host.nano_cpus < 0 or host.nano_cpus > cores * 1_000_000_000:
        raise InvalidArgument(f"range of CPUs is from 0.01 to {cores}.00, as there are only {cores} CPUs available")
    if host.cpu_period and not _LEAST_CPU_PERIOD <= host.cpu_period <= _GREATEST_CPU_PERIOD:
        raise InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host.cpu_quota < _LEAST_CPU_QUOTA:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if (host.cpu_realtime_period or host.cpu_realtime_runtime) and not kernel.cpu_realtime:
        raise InvalidArgument("Your kernel does not support CPU real-time scheduler")
    if 0 < host.cpu_realtime_period < host.cpu_realtime_runtime:
        raise InvalidArgument("cpu real-time runtime cannot be higher than cpu real-time period")
    _check_numbers(host.cpuset_cpus, kernel.cpus, "cpuset cpus", "CPUs")
    _check_numbers(host.cpuset_mems, kernel.mems, "cpuset mems", "memory nodes")


def _check_numbers(text: str, there: frozenset[int], what: str, called: str) -> None:
    if not text:
        return
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        raise InvalidArgument(f"Invalid value {text} for {what}")
    try:
        wanted = parse_numbers(text)
    except ValueError as error:
        raise InvalidArgument(f"Invalid value {text} for {what}") from error
    if there and not wanted <= there:
        raise InvalidArgument(f"Requested {called} are not available - requested {text}, available: {_ranges(there)}")


def _ranges(numbers: frozenset[int]) -> str:
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
