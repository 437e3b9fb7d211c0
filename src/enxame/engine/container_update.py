"""What ``update`` makes of a container's limits and restart policy. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from enxame.engine import restart_policy
from enxame.engine.kernel_limits import KernelLimits
from enxame.engine.resource_limits import possible_limits
from enxame.errors import Conflict, InvalidArgument
from enxame.model.container import ContainerUpdateRequest, HostConfig

#: Taken over when they are not zero, as Docker does.
_PLAIN = (
    "blkio_weight",
    "cpu_shares",
    "nano_cpus",
    "cpu_period",
    "cpu_quota",
    "cpuset_cpus",
    "cpuset_mems",
    "memory",
    "memory_reservation",
    "memory_swap",
)


def updated(host: HostConfig, wanted: ContainerUpdateRequest, *, kernel: KernelLimits) -> tuple[HostConfig, list[str]]:
    """The host config after the update, and warnings.

    Raises:
        InvalidArgument, Conflict: the update breaks a rule, in Docker's words.
    """
    for new, old, what in (
        (wanted.nano_cpus, host.cpu_period, "Nano CPUs cannot be updated as CPU Period has already been set"),
        (wanted.nano_cpus, host.cpu_quota, "Nano CPUs cannot be updated as CPU Quota has already been set"),
        (wanted.cpu_period, host.nano_cpus, "CPU Period cannot be updated as NanoCPUs has already been set"),
        (wanted.cpu_quota, host.nano_cpus, "CPU Quota cannot be updated as NanoCPUs has already been set"),
    ):
        if new and old:
            raise Conflict(f"Conflicting options: {what}")
    if kernel.swap and wanted.memory and not wanted.memory_swap and host.memory:
        swap = host.memory_swap or 2 * host.memory
        if 0 < swap < wanted.memory:
            raise Conflict(
                "Memory limit should be smaller than already set memoryswap limit, "
                "update the memoryswap at the same time"
            )
    changes: dict[str, object] = {name: value for name in _PLAIN if (value := getattr(wanted, name))}
    if wanted.pids_limit is not None:
        changes["pids_limit"] = wanted.pids_limit
    if kernel.swap and wanted.memory and not wanted.memory_swap and host.memory and not host.memory_swap:
        # What the old limit implied stays as it is.
        changes["memory_swap"] = 2 * host.memory
    if wanted.restart_policy.name:
        restart_policy.check(wanted.restart_policy)
        if host.auto_remove and wanted.restart_policy.name != "no":
            raise InvalidArgument("Restart policy cannot be updated because AutoRemove is enabled for the container")
        changes["restart_policy"] = wanted.restart_policy
    changed = replace(host, **changes)
    warnings: list[str] = []
    changed = possible_limits(changed, warnings if wanted.memory or wanted.blkio_weight else [], kernel)
    return changed, warnings
