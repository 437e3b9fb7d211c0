"""Runs a task as a container of this machine's engine."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from enxame.agent.container_spec import LABEL_PREFIX, container_name, container_request, own_addresses
from enxame.agent.controller import TaskError, Withdraw
from enxame.agent.payloads import PayloadFiles
from enxame.agent.template import TemplateContext
from enxame.engine.engine import Engine
from enxame.errors import Conflict, EnxameError, NotFound, NotModified
from enxame.model.filters import Filters
from enxame.model.node import NodeDescription
from enxame.model.service import DEFAULT_STOP_GRACE, PortConfig
from enxame.model.task import ContainerStatus, Task

log = logging.getLogger(__name__)


class ContainerController:
    """See :class:`enxame.agent.controller.Controller`. The container is found again by its name, so that a new daemon
    goes on where the old one ended.
    """

    def __init__(
        self, engine: Engine, task: Task, node: NodeDescription, payloads: PayloadFiles, withdraw: Withdraw
    ) -> None:
        self._engine = engine
        self._task = task
        self._node = node
        self._payloads = payloads
        self._withdraw = withdraw
        self._name = container_name(task)
        self._container_id = self._find()

    async def prepare(self) -> None:
        """Image, container, mounts and network, all but the start."""
        try:
            await self._ensure_image()
            if self._container_id is None:
                mounts = await asyncio.to_thread(self._payloads.write, self._task)
                request = container_request(self._task, TemplateContext(self._task, self._node), mounts)
                try:
                    created = await self._engine.containers.create(self._name, request)
                    self._container_id = created.id
                except Conflict:
                    # Created by an earlier try that was cut off after the container was made.
                    self._container_id = self._find()
                    if self._container_id is None:
                        raise
            await self._engine.containers.prepare(self._container_id)
        except EnxameError as error:
            raise TaskError(error.message) from error

    async def start(self) -> None:
        """Start; with a health check, wait for the first healthy answer."""
        container_id = self._require_container()
        try:
            await self._engine.containers.start(container_id)
        except NotModified:
            pass
        except EnxameError as error:
            raise TaskError(f"starting container failed: {error.message}") from error
        if self._has_health_check(container_id) and await self._health_turn(container_id, "healthy") == "unhealthy":
            await self._fail_unhealthy(container_id)
        await self._engine.networks.set_serving(container_id, True)

    async def wait(self) -> None:
        """Return on exit code 0; an unhealthy container is stopped and counts as failed."""
        container_id = self._require_container()
        try:
            if not self._has_health_check(container_id):
                await self._engine.containers.wait(container_id)
            elif await self._health_turn(container_id) == "unhealthy":
                await self._fail_unhealthy(container_id)
        except NotFound as error:
            raise TaskError(f"{error.message}: it was removed behind our back") from error
        self._raise_exit()

    def _has_health_check(self, container_id: str) -> bool:
        check = self._engine.containers.inspect(container_id).config.healthcheck
        return check is not None and bool(check.test) and check.test[0] != "NONE"

    async def _health_turn(self, container_id: str, *awaited: str) -> str:
        """Wait until the container is unhealthy, in one of the ``awaited`` health states, or ended (raises then)."""
        wanted = Filters({"type": frozenset({"container"}), "container": frozenset({container_id})})
        async with aclosing(self._engine.events.subscribe(wanted, None, None)) as events:
            while True:
                state = self._engine.containers.inspect(container_id).state
                if not state.running:
                    self._raise_exit()
                    return "exited"
                if state.health is not None and state.health.status in {"unhealthy", *awaited}:
                    return state.health.status
                if await anext(events, None) is None:
                    raise TaskError("lost track of the container's health")

    async def shutdown(self) -> None:
        """Out of names and load balancing everywhere first; then stop signal, grace period, kill."""
        if self._container_id is None:
            return
        spec = self._task.spec.container_spec
        grace = spec.stop_grace_period if spec and spec.stop_grace_period is not None else DEFAULT_STOP_GRACE
        await self._engine.networks.set_serving(self._container_id, False)
        if self._state() == "running":
            await self._withdraw(self._task.id)
        try:
            await self._engine.containers.stop(self._container_id, timeout=grace / 1e9)
        except (NotModified, NotFound):
            return
        except EnxameError as error:
            raise TaskError(error.message) from error

    async def remove(self) -> None:
        """Remove the container and what was written for it."""
        container_id = self._container_id or self._find()
        if container_id is not None:
            try:
                await self._engine.containers.remove(container_id, force=True, volumes=True)
            except NotFound:
                pass
            except EnxameError as error:
                raise TaskError(error.message) from error
        await asyncio.to_thread(self._payloads.remove, self._task.id)

    def is_running(self) -> bool:
        """The container runs, whoever started it."""
        return self._state() == "running"

    def was_started(self) -> bool:
        """The container exists and is past its start."""
        return self._state() in {"running", "exited", "dead", "paused", "restarting"}

    def container_status(self) -> ContainerStatus | None:
        """Id, pid and exit code."""
        if self._container_id is None:
            return None
        try:
            inspected = self._engine.containers.inspect(self._container_id)
        except NotFound:
            return ContainerStatus(container_id=self._container_id)
        state = inspected.state
        addresses = own_addresses(self._task, inspected.network_settings.networks)
        return ContainerStatus(
            container_id=self._container_id, pid=state.pid, exit_code=state.exit_code, addresses=addresses
        )

    def host_ports(self) -> list[PortConfig]:
        """Ports published in host mode, with the numbers they got."""
        wanted = [
            port for port in (self._task.internal.ports if self._task.internal else []) if port.publish_mode == "host"
        ]
        if not wanted or self._container_id is None:
            return []
        bound = self._engine.containers.inspect(self._container_id).network_settings.ports or {}
        ports = []
        for port in wanted:
            bindings = bound.get(f"{port.target_port}/{port.protocol or 'tcp'}") or []
            if not bindings:
                continue  # on the machine's own network, or on the wire: the port is open there as it is
            published = int(bindings[0].host_port) if bindings[0].host_port else port.published_port
            ports.append(
                PortConfig(
                    name=port.name,
                    protocol=port.protocol or "tcp",
                    target_port=port.target_port,
                    published_port=published,
                    publish_mode="host",
                )
            )
        return ports

    def _state(self) -> str:
        if self._container_id is None:
            return ""
        try:
            return self._engine.containers.inspect(self._container_id).state.status
        except NotFound:
            return ""

    def _find(self) -> str | None:
        wanted = Filters({"label": frozenset({f"{LABEL_PREFIX}.task.id={self._task.id}"})})
        found = self._engine.containers.list(all=True, filters=wanted)
        return found[0].id if found else None

    def _require_container(self) -> str:
        if self._container_id is None:
            raise TaskError("the task's container does not exist")
        return self._container_id

    async def _ensure_image(self) -> None:
        spec = self._task.spec.container_spec
        assert spec is not None
        try:
            self._engine.images.resolve(spec.image)
        except NotFound as missing:
            auth = self._task.internal.registry_auth if self._task.internal else ""
            try:
                await self._engine.pull_for_task(spec.image, auth)
            except EnxameError as error:
                raise TaskError(f"{missing.message}: {error.message}") from error

    async def _fail_unhealthy(self, container_id: str) -> None:
        await self.shutdown()
        state = self._engine.containers.inspect(container_id).state
        raise TaskError(f"task: non-zero exit ({state.exit_code}): dockerexec: unhealthy container")

    def _raise_exit(self) -> None:
        try:
            state = self._engine.containers.inspect(self._require_container()).state
        except NotFound as error:
            raise TaskError(error.message) from error
        if state.exit_code != 0 or state.oom_killed:
            reason = f": {state.error}" if state.error else ""
            raise TaskError(f"task: non-zero exit ({state.exit_code}){reason}")
