"""This machine as a place where tasks run: makes controllers, describes the machine, finds strays."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import AsyncIterator, Mapping, Sequence

from msgspec.structs import replace

from enxame import __version__
from enxame.agent.container_controller import ContainerController
from enxame.agent.container_spec import LABEL_PREFIX, container_name
from enxame.agent.controller import Withdraw
from enxame.agent.payloads import PayloadFiles
from enxame.engine.drivers import drivers
from enxame.engine.engine import Engine
from enxame.errors import EnxameError
from enxame.model.filters import Filters
from enxame.model.node import EngineDescription, NodeDescription, NodeResources, PluginDescription
from enxame.model.service import DiscreteGenericResource, GenericResource, NamedGenericResource, Platform
from enxame.model.stream import LogOptions, LogRecord
from enxame.model.task import Task

log = logging.getLogger(__name__)


class ContainerExecutor:
    """See :class:`enxame.agent.controller.Executor`. ``generic_resources`` are texts such as ``GPU=UUID1``."""

    def __init__(
        self,
        engine: Engine,
        payloads: PayloadFiles,
        *,
        hostname: str,
        labels: Mapping[str, str],
        generic_resources: Sequence[str],
    ) -> None:
        self._engine = engine
        self._payloads = payloads
        self._description = NodeDescription(
            hostname=hostname,
            platform=Platform(architecture=platform.machine(), os="linux"),
            resources=NodeResources(
                nano_cpus=(os.cpu_count() or 1) * 10**9,
                memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
                generic_resources=_generic(generic_resources),
            ),
            engine=EngineDescription(
                engine_version=__version__,
                labels=dict(labels),
                plugins=[
                    PluginDescription(type=kind, name=name) for kind, names in drivers().items() for name in names
                ],
            ),
        )

    def controller(self, task: Task, withdraw: Withdraw) -> ContainerController:
        """The controller of a task; it finds the task's container if there is one already."""
        return ContainerController(self._engine, task, self._description, self._payloads, withdraw)

    def describe(self) -> NodeDescription:
        """What this machine offers."""
        networks = self._engine.networks
        return replace(self._description, subnets=list(networks.subnets()), ipv4_only=not networks.has_ipv6)

    async def read_log(self, task: Task, options: LogOptions) -> AsyncIterator[LogRecord]:
        """The lines of a task's container. Raises NotFound when there is none here."""
        async for record in self._engine.containers.logs(container_name(task), options):
            yield record

    async def remove_strays(self) -> None:
        """Remove containers of tasks: for a node that is in no swarm, or not in the one they were of."""
        labelled = Filters({"label": frozenset({f"{LABEL_PREFIX}.task.id"})})
        for container in self._engine.containers.list(all=True, filters=labelled):
            log.warning("removing %s, left behind by a swarm that this node is not in any more", container.names[0])
            try:
                await self._engine.containers.remove(container.id, force=True, volumes=True)
            except EnxameError as error:
                log.error("%s", error)


def _generic(texts: Sequence[str]) -> list[GenericResource]:
    resources: list[GenericResource] = []
    for text in texts:
        kind, _, value = text.partition("=")
        if value.isdigit():
            resources.append(
                GenericResource(discrete_resource_spec=DiscreteGenericResource(kind=kind, value=int(value)))
            )
        else:
            resources.append(GenericResource(named_resource_spec=NamedGenericResource(kind=kind, value=value)))
    return resources
