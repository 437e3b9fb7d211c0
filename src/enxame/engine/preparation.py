"""Everything of a start but its last step: mounts, network, volumes, bundle, and the runtime's create."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec.structs import replace

from enxame.engine.bundle import Written, hostname_of, write_bundle
from enxame.engine.cleanup import Cleanup
from enxame.engine.container import Container, process_start
from enxame.engine.container_record import Definition
from enxame.engine.image_defaults import as_list
from enxame.engine.link_variables import link_variables
from enxame.engine.mount_requests import mount_attributes
from enxame.engine.runtime import Created, MonitorOptions, RuntimeFailure
from enxame.engine.runtime_errors import start_failure
from enxame.engine.sandbox import SandboxInfo, SandboxRequest
from enxame.engine.surroundings import Surroundings
from enxame.errors import Conflict, EnxameError

_log = logging.getLogger(__name__)

#: Containers that are being made at the same time: more only wait for each other in the kernel's cgroup lock.
_PARALLEL_CREATES = 8

#: The container of a swarm's task: it says itself when its service's name is to lead to it.
_TASK_LABEL = "com.docker.swarm.task.id"


class Preparation:
    """``find`` gives another container by reference."""

    def __init__(self, around: Surroundings, cleanup: Cleanup, find: Callable[[str], Container]) -> None:
        self._around = around
        self._cleanup = cleanup
        self._find = find
        self._creates = asyncio.Semaphore(_PARALLEL_CREATES)

    async def prepare(self, container: Container) -> None:
        """Make the container ready to run. The caller holds the lock. Idempotent.

        Raises:
            EnxameError: it cannot be done; nothing is left behind, the container shows why.
        """
        if container.created is not None or container.running:
            return
        await self._cleanup.done(container)
        self._around.change(container, prepared=True, error="")
        try:
            async with self._creates:
                container.created = await self._make(container)
        except BaseException as error:
            if isinstance(error, EnxameError):
                code = getattr(error, "exit_code", 128)
                self._around.change(container, error=error.message, exit_code=code)
            await asyncio.shield(self._cleanup.begin(container))
            raise

    async def _make(self, container: Container) -> Created:
        definition, around = container.definition, self._around
        runtime = around.runtimes.choose(definition.host.runtime)
        rootfs, sandbox, volumes = await _all_or_first_error(
            around.mount(container), self._connect(container), self._acquire(container)
        )
        bundle = around.bundle(container)
        while True:
            written = await asyncio.to_thread(
                write_bundle,
                definition,
                directory=around.records.directory(container.id),
                bundle=bundle,
                rootfs=rootfs,
                sandbox=sandbox,
                volumes=volumes,
                machine=around.machine,
                find=self._find_definition,
                filters=runtime.seccomp_cache,
                further_env=self._linked_env(definition),
            )
            created = await self._create(container, bundle)
            if self._is_confined(container, written):
                break
            _log.warning("%s takes no compiled seccomp filter: compiling one for each container", runtime.name)
            await runtime.delete(container.id)
        container.condition = replace(container.condition, sandbox=sandbox, mounts=written.mounts)
        # Written before the start, so that a daemon that dies now finds the processes.
        around.change(
            container,
            pid=created.pid,
            pid_start=process_start(created.pid),
            monitor_pid=created.monitor_pid,
            monitor_start=process_start(created.monitor_pid),
        )
        return created

    def _linked_env(self, definition: Definition) -> list[str]:
        """Variables about the containers that this one is linked to on the default bridge."""
        if definition.host.network_mode not in {"default", "bridge"}:
            return []
        found: list[str] = []
        for link in definition.host.links or []:
            target, _, alias = link.partition(":")
            other = self._find(target.lstrip("/"))
            place = other.condition.sandbox.endpoints.get("bridge") if other.condition.sandbox else None
            if not other.running or place is None:
                raise Conflict(f"Cannot link to a non running container: /{other.name} AS /{definition.name}/{alias}")
            config = other.definition.config
            found += link_variables(
                definition.name,
                alias.rpartition("/")[2] or other.name,
                place.ip_address,
                config.exposed_ports,
                config.env or [],
            )
        return found

    def _find_definition(self, ref: str) -> tuple[Definition, int]:
        other = self._find(ref)
        return other.definition, other.condition.pid

    async def _create(self, container: Container, bundle: Path) -> Created:
        definition, around = container.definition, self._around
        options = MonitorOptions(
            container_id=container.id,
            name=definition.name,
            bundle=bundle,
            exit_directory=around.exits,
            logs=_logs(definition.log_driver, around.log_path(container)),
            terminal=definition.config.tty,
            stdin=definition.config.open_stdin,
            stdin_once=definition.config.stdin_once,
        )
        (around.exits / container.id).unlink(missing_ok=True)
        runtime = around.runtime(container)
        if (namespace := runtime.namespace) is not None:
            await namespace.make_visible([mount.source for mount in definition.mounts if mount.type == "bind"])
        try:
            return await runtime.create(options)
        except (RuntimeFailure, OSError) as error:
            raise self.failure(container, str(error)) from error

    def _is_confined(self, container: Container, written: Written) -> bool:
        """Whether a compiled filter that the runtime was given is in force; learns one that it compiled itself."""
        cache = self._around.runtime(container).seccomp_cache
        if cache is None or not written.filter_key:
            return True
        if written.given:
            return cache.taken(written.filter_key, container.id)
        cache.learn(written.filter_key, container.id)
        return True

    def failure(self, container: Container, said: str) -> EnxameError:
        """What the runtime said, as an error in Docker's words."""
        config = container.definition.config
        program = next(iter([*as_list(config.entrypoint), *as_list(config.cmd)]), "")
        failure = start_failure(said, program, self._around.runtime(container).name)
        failure.error.exit_code = failure.exit_code  # type: ignore[attr-defined]
        return failure.error

    async def _connect(self, container: Container) -> SandboxInfo:
        definition = container.definition
        host = definition.host
        kind, _, other = host.network_mode.partition(":")
        if kind == "container":
            owner = self._find(other)
            if not owner.running:
                raise Conflict(f"cannot join network of a non running container: {owner.id}")
            shared = owner.condition.sandbox or SandboxInfo()
            return SandboxInfo(
                netns_path=f"/proc/{owner.condition.pid}/ns/net", hosts=shared.hosts, resolv_conf=shared.resolv_conf
            )
        return await self._around.networks.connect(
            container.id,
            SandboxRequest(
                name=definition.name,
                hostname=hostname_of(definition),
                domainname=definition.config.domainname,
                network_mode=host.network_mode,
                endpoints=definition.networks,
                port_bindings=host.port_bindings,
                exposed_ports=list(definition.config.exposed_ports),
                publish_all=host.publish_all_ports,
                dns=host.dns,
                dns_search=host.dns_search,
                dns_options=host.dns_options,
                extra_hosts=host.extra_hosts or [],
                sysctls=host.sysctls,
                links=host.links or [],
                waits_to_serve=_TASK_LABEL in definition.config.labels,
            ),
        )

    async def _acquire(self, container: Container) -> dict[str, str]:
        found = {}
        for mount in container.definition.mounts:
            if mount.type == "volume":
                found[mount.name] = await self._around.volumes.acquire(mount.name, container.id)
                self._around.events.publish("volume", "mount", mount.name, mount_attributes(container.id, mount))
        return found


def _logs(driver: str, path: Path) -> list[str]:
    """Where the monitor logs to, in its words. Of the journal a bounded copy is kept, which ``logs`` reads."""
    if driver == "none":
        return ["none"]
    return [f"k8s-file:{path}", *(["journald:"] if driver == "journald" else [])]


async def _all_or_first_error(
    rootfs: Awaitable[str], sandbox: Awaitable[SandboxInfo], volumes: Awaitable[dict[str, str]]
) -> tuple[str, SandboxInfo, dict[str, str]]:
    """Run the three side by side to their ends; the first error is raised when none runs any more."""
    outcomes = await asyncio.gather(rootfs, sandbox, volumes, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return outcomes  # type: ignore[return-value]
