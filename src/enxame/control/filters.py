"""Which nodes can take a task, and in Swarm's words why the others cannot.

A filter is made for one group of equal tasks and is only there if it can refuse a node for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from enxame.control.constraint import matches, parse
from enxame.control.node_load import NodeLoad, host_ports, reservation
from enxame.errors import InvalidArgument
from enxame.model.service import Platform
from enxame.model.task import Task

Check: TypeAlias = Callable[[NodeLoad], bool]

_BUILT_IN: Final = {
    "Volume": frozenset({"", "local"}),
    "Network": frozenset({"", "overlay", "bridge", "host", "null", "none"}),
    "Log": frozenset({"", "none", "json-file", "local"}),
}
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Filter:
    """``one`` and ``many`` explain a refusal by one and by ``{}`` nodes. ``changes``: its answer for a node may change
    as tasks of the group are placed there.
    """

    check: Check
    one: str
    many: str
    changes: bool = False

    def explain(self, nodes: int) -> str:
        """Why so many nodes were refused."""
        return self.one if nodes == 1 else self.many.format(nodes)


class Pipeline:
    """The filters of a group of tasks in order, and how many nodes each refused."""

    def __init__(self, task: Task) -> None:
        self.filters = [made for make in _FILTERS if (made := make(task)) is not None]
        self._refused = [0] * len(self.filters)
        changing = [entry.check for entry in self.filters if entry.changes]
        #: For a node that passed all and got a task since: may it have another?
        self.still_fits: Check | None = (lambda load: all(check(load) for check in changing)) if changing else None

    def accepts(self, load: NodeLoad) -> bool:
        """Whether the node passes all filters; the first that refuses it is counted."""
        for index, entry in enumerate(self.filters):
            if not entry.check(load):
                self._refused[index] += 1
                return False
        return True

    def explain(self) -> str:
        """The refusals, most frequent first: ``insufficient resources on 2 nodes; 1 node not available …``."""
        # Of equals, the particular reason comes before the node's availability.
        order = sorted(range(len(self.filters)), key=lambda index: (-self._refused[index], index == 0))
        return "; ".join(self.filters[index].explain(self._refused[index]) for index in order if self._refused[index])


def _ready(_task: Task) -> Filter:
    return Filter(
        lambda load: load.is_ready, "1 node not available for new tasks", "{} nodes not available for new tasks"
    )


def _resources(task: Task) -> Filter | None:
    wanted = reservation(task)
    cpus, memory, generic = wanted.nano_cpus, wanted.memory_bytes, wanted.generic_resources
    if not cpus and not memory and not generic:
        return None

    def check(load: NodeLoad) -> bool:
        return cpus <= load.nano_cpus and memory <= load.memory and (not generic or load.generic.has(generic))

    return Filter(check, "insufficient resources on 1 node", "insufficient resources on {} nodes", changes=True)


def _plugins(task: Task) -> Filter | None:
    wanted = [(kind, name) for kind, name in _plugins_of(task) if name not in _BUILT_IN[kind]]
    if not wanted:
        return None

    def check(load: NodeLoad) -> bool:
        plugins = load.node.description.engine.plugins
        installed = {(plugin.type, plugin.name.removesuffix(":latest")) for plugin in plugins}
        kinds = {plugin.type for plugin in plugins}
        # A node that names no log drivers at all did not report them.
        return all(entry in installed or (entry[0] == "Log" and "Log" not in kinds) for entry in wanted)

    return Filter(check, "missing plugin on 1 node", "missing plugin on {} nodes")


def _plugins_of(task: Task) -> Iterable[tuple[str, str]]:
    container = task.spec.container_spec
    for mount in container.mounts if container is not None else ():
        options = mount.volume_options
        if mount.type == "volume" and options is not None and options.driver_config is not None:
            yield "Volume", options.driver_config.name
    for attachment in task.networks_attachments:
        if attachment.network.driver_state is not None:
            yield "Network", attachment.network.driver_state.name
    if task.spec.log_driver is not None:
        yield "Log", task.spec.log_driver.name


def _constraints(task: Task) -> Filter | None:
    placement = task.spec.placement
    if placement is None or not placement.constraints:
        return None
    try:
        parsed = parse(placement.constraints)
    except InvalidArgument:
        return None
    return Filter(
        lambda load: matches(parsed, load.node),
        "scheduling constraints not satisfied on 1 node",
        "scheduling constraints not satisfied on {} nodes",
    )


def _platforms(task: Task) -> Filter | None:
    placement = task.spec.placement
    if placement is None or not placement.platforms:
        return None
    platforms = [(_architecture(platform), platform.os) for platform in placement.platforms]

    def check(load: NodeLoad) -> bool:
        mine = load.node.description.platform
        return any(arch in ("", _architecture(mine)) and os in ("", mine.os) for arch, os in platforms)

    return Filter(check, "unsupported platform on 1 node", "unsupported platform on {} nodes")


def _architecture(platform: Platform) -> str:
    return _ARCHITECTURES.get(platform.architecture, platform.architecture)


def _host_ports(task: Task) -> Filter | None:
    ports = host_ports(task)
    if not ports:
        return None
    return Filter(
        lambda load: not any(port in load.used_ports for port in ports),
        "host-mode port already in use on 1 node",
        "host-mode port already in use on {} nodes",
        changes=True,
    )


def _max_replicas(task: Task) -> Filter | None:
    placement = task.spec.placement
    if placement is None or not placement.max_replicas:
        return None
    limit, service_id = placement.max_replicas, task.service_id
    text = "max replicas per node limit exceed"
    return Filter(lambda load: load.by_service.get(service_id, 0) < limit, text, text, changes=True)


_FILTERS: Final[tuple[Callable[[Task], Filter | None], ...]] = (
    _ready,
    _resources,
    _plugins,
    _constraints,
    _platforms,
    _host_ports,
    _max_replicas,
)
