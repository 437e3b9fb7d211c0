"""The engine of one machine: containers with their images, volumes and networks, put together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from enxame.engine.bundle import Machine
from enxame.engine.capabilities import own_capabilities
from enxame.engine.cgroups import CgroupLayout, detect_layout
from enxame.engine.containers import ContainerManager
from enxame.engine.events import EventBus
from enxame.engine.runtime_probe import find_runtime

if TYPE_CHECKING:
    from enxame.engine.ports import Images, Networks, Volumes


async def open_containers(
    data_root: Path,
    exec_root: Path,
    *,
    images: Images,
    volumes: Volumes,
    networks: Networks,
    events: EventBus,
    runtime: str = "",
) -> ContainerManager:
    """A container manager that has adopted what runs. ``runtime``: the program to use instead of the best one.

    Raises:
        EnxameError: no runtime works on this machine.
    """
    for directory in (data_root, exec_root):
        directory.mkdir(parents=True, exist_ok=True, mode=0o711)
    layout = detect_layout()
    manager = ContainerManager(
        data_root=data_root,
        exec_root=exec_root,
        runtime=await find_runtime(data_root, exec_root, layout, runtime),
        machine=Machine(layout, own_capabilities(), has_swap_limit(layout)),
        images=images,
        volumes=volumes,
        networks=networks,
        events=events,
    )
    await manager.open()
    return manager


def has_swap_limit(layout: CgroupLayout) -> bool:
    """Whether the kernel can limit memory and swap together."""
    if layout.version == 2:
        return any(Path("/sys/fs/cgroup").glob("*/memory.swap.max"))
    return (layout.directory("memory", "") / "memory.memsw.limit_in_bytes").exists()
