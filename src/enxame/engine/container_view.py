"""Containers as the API shows them. Pure."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

from enxame.engine.container import Container
from enxame.engine.image_defaults import as_list
from enxame.engine.patterns import any_matches
from enxame.engine.sandbox import SandboxInfo
from enxame.errors import InvalidArgument
from enxame.model.base import ZERO_TIME
from enxame.model.container import EndpointSettings
from enxame.model.container_view import (
    ContainerInspect,
    ContainerState,
    ContainerSummary,
    GraphDriver,
    NetworkSettings,
    Port,
    SummaryHostConfig,
    SummaryNetworkSettings,
)
from enxame.model.filters import Filters

_STATES = frozenset({"created", "running", "paused", "restarting", "removing", "exited", "dead"})
_HEALTH = frozenset({"none", "starting", "healthy", "unhealthy"})


def state_word(container: Container) -> str:
    """created|running|paused|restarting|removing|exited|dead."""
    if container.removing:
        return "removing"
    return "paused" if container.condition.paused else container.condition.status


def show_state(container: Container) -> ContainerState:
    """The ``State`` of inspect."""
    condition = container.condition
    return ContainerState(
        status=state_word(container),
        running=condition.status in {"running", "restarting"},
        paused=condition.paused,
        restarting=condition.status == "restarting",
        oom_killed=condition.oom_killed,
        dead=condition.status == "dead",
        pid=condition.pid if condition.status == "running" else 0,
        exit_code=condition.exit_code,
        error=condition.error,
        started_at=condition.started_at,
        finished_at=condition.finished_at,
        health=condition.health,
    )


def show_networks(container: Container) -> dict[str, EndpointSettings]:
    """The networks: as they are while it runs, as asked for otherwise."""
    definition, sandbox = container.definition, container.condition.sandbox
    if container.running and sandbox is not None and sandbox.netns_path:
        return sandbox.endpoints
    if definition.networks:
        known = {item.network_id: name for name, item in (sandbox.endpoints if sandbox else {}).items()}
        return {known.get(name, name): item for name, item in definition.networks.items()}
    if definition.parted:
        return {}
    if sandbox is not None and sandbox.endpoints:
        return sandbox.endpoints
    mode = definition.host.network_mode
    name = "bridge" if mode in {"", "default"} else mode
    return {} if name.startswith("container:") else {name: EndpointSettings()}


def show_network_settings(container: Container) -> NetworkSettings:
    """The ``NetworkSettings`` of inspect."""
    sandbox = container.condition.sandbox if container.running else None
    networks = show_networks(container)
    bridge = networks.get("bridge", EndpointSettings())
    sandbox = sandbox or SandboxInfo()
    return NetworkSettings(
        sandbox_id=sandbox.sandbox_id,
        sandbox_key=sandbox.netns_path,
        ports={port: bindings or None for port, bindings in sandbox.ports.items()},
        endpoint_id=bridge.endpoint_id,
        gateway=bridge.gateway,
        global_ipv6_address=bridge.global_ipv6_address,
        global_ipv6_prefix_len=bridge.global_ipv6_prefix_len,
        ip_address=bridge.ip_address,
        ip_prefix_len=bridge.ip_prefix_len,
        ipv6_gateway=bridge.ipv6_gateway,
        mac_address=bridge.mac_address,
        networks=networks,
    )


def show(
    container: Container, directory: Path, log_path: Path, *, graph: dict[str, str], sizes: tuple[int, int] | None
) -> ContainerInspect:
    """``GET /containers/{id}/json``; ``sizes`` are those of the writable layer and of everything."""
    definition = container.definition
    words = [*as_list(definition.config.entrypoint), *as_list(definition.config.cmd)]
    return ContainerInspect(
        id=definition.id,
        created=definition.created,
        path=words[0] if words else "",
        args=words[1:],
        state=show_state(container),
        image=definition.image_id,
        resolv_conf_path=str(directory / "resolv.conf"),
        hostname_path=str(directory / "hostname"),
        hosts_path=str(directory / "hosts"),
        log_path=str(log_path) if definition.log_driver != "none" else "",
        name=f"/{definition.name}",
        restart_count=container.condition.restart_count,
        exec_ids=[session.id for session in container.execs.values() if session.running] or None,
        host_config=definition.host,
        graph_driver=GraphDriver(data=graph),
        size_rw=sizes[0] if sizes else None,
        size_root_fs=sizes[1] if sizes else None,
        mounts=container.condition.mounts,
        config=definition.config,
        network_settings=show_network_settings(container),
    )


def summarize(container: Container, now: datetime, *, sizes: tuple[int, int] | None) -> ContainerSummary:
    """An item of ``GET /containers/json``."""
    definition = container.definition
    words = [*as_list(definition.config.entrypoint), *as_list(definition.config.cmd)]
    return ContainerSummary(
        id=definition.id,
        names=[f"/{definition.name}"],
        image=definition.image,
        image_id=definition.image_id,
        command=" ".join(word if not any(c in word for c in " \t\"'") else shlex.quote(word) for word in words),
        created=int(definition.created.timestamp()),
        ports=list_ports(container),
        size_rw=sizes[0] if sizes else None,
        size_root_fs=sizes[1] if sizes else None,
        labels=definition.config.labels,
        state=state_word(container),
        status=status_text(container, now),
        host_config=SummaryHostConfig(network_mode=definition.host.network_mode or "default"),
        network_settings=SummaryNetworkSettings(networks=show_networks(container)),
        mounts=container.condition.mounts,
    )


def list_ports(container: Container) -> list[Port]:
    """The PORTS column: published ones with their host side, exposed ones without."""
    sandbox = container.condition.sandbox
    if sandbox is None or not container.running:
        return []
    ports: list[Port] = []
    for text, bindings in sandbox.ports.items():
        number, _, protocol = text.partition("/")
        if not bindings:
            ports.append(Port(private_port=int(number), type=protocol or "tcp"))
        ports += [
            Port(
                ip=binding.host_ip or "0.0.0.0",
                private_port=int(number),
                public_port=int(binding.host_port or 0),
                type=protocol or "tcp",
            )
            for binding in bindings
        ]
    return ports


def status_text(container: Container, now: datetime) -> str:
    """``Up 5 minutes (healthy)``, ``Exited (0) 2 hours ago``, as Docker words it."""
    condition = container.condition
    if condition.status == "restarting":
        return f"Restarting ({condition.exit_code}) {human_duration(now, condition.finished_at)} ago"
    if condition.status == "running":
        text = f"Up {human_duration(now, condition.started_at)}"
        if condition.paused:
            return f"{text} (Paused)"
        if condition.health is not None:
            word = condition.health.status
            return f"{text} ({'health: starting' if word == 'starting' else word})"
        return text
    if container.removing:
        return "Removal In Progress"
    if condition.status == "dead":
        return "Dead"
    if condition.finished_at == ZERO_TIME:
        return "Created"
    return f"Exited ({condition.exit_code}) {human_duration(now, condition.finished_at)} ago"


def human_duration(now: datetime, since: datetime) -> str:
    """go-units' HumanDuration."""
    seconds = max(int((now - since).total_seconds()), 0)
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    minutes = seconds // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = round(seconds / 3600)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"


class ListFilter:
    """``docker ps --filter``, with what refers to other containers looked up before.

    ``before`` and ``since`` are creation times; ``ancestors`` are image ids and references.
    """

    def __init__(
        self, filters: Filters, *, before: datetime | None, since: datetime | None, ancestors: set[str]
    ) -> None:
        for state in filters.get("status") - _STATES:
            raise InvalidArgument(f"invalid filter 'status={state}'")
        for health in filters.get("health") - _HEALTH:
            raise InvalidArgument(f"invalid filter 'health={health}'")
        for code in filters.get("exited"):
            if not re.fullmatch(r"[+-]?\d+", code):
                raise InvalidArgument(f'strconv.Atoi: parsing "{code}": invalid syntax')
        self._filters = filters
        self._id_matches = any_matches(filters.get("id"))
        self._name_matches = any_matches(filters.get("name"))
        self._before, self._since, self._ancestors = before, since, ancestors

    def passes(self, container: Container) -> bool:
        """Whether the container is to be shown."""
        filters, definition, condition = self._filters, container.definition, container.condition
        if "id" in filters and not self._id_matches(definition.id):
            return False
        if "name" in filters and not (self._name_matches(definition.name) or self._name_matches(f"/{definition.name}")):
            return False
        if "status" in filters and state_word(container) not in filters.get("status"):
            return False
        if "exited" in filters and not (
            condition.status == "exited" and str(condition.exit_code) in filters.get("exited")
        ):
            return False
        if not filters.labels_match(definition.config.labels):
            return False
        health = condition.health.status if condition.health is not None else "none"
        if "health" in filters and health not in filters.get("health"):
            return False
        if self._before is not None and definition.created >= self._before:
            return False
        if self._since is not None and definition.created <= self._since:
            return False
        if "ancestor" in filters and not self._ancestors & {definition.image_id, definition.image}:
            return False
        return self._passes_attachments(container)

    def _passes_attachments(self, container: Container) -> bool:
        filters, definition = self._filters, container.definition
        if "network" in filters:
            networks = show_networks(container)
            known = {*networks, *(endpoint.network_id for endpoint in networks.values())}
            if not known & filters.get("network"):
                return False
        if "volume" in filters:
            sources = {mount.name or mount.source for mount in definition.mounts}
            if not (sources | {mount.destination for mount in definition.mounts}) & filters.get("volume"):
                return False
        if "is-task" in filters:
            is_task = "com.docker.swarm.task.id" in definition.config.labels
            if is_task != filters.flag("is-task"):
                return False
        if "publish" in filters and not _port_in(
            filters.get("publish"), [(port.public_port, port.type) for port in list_ports(container)]
        ):
            return False
        if "expose" in filters:
            exposed = [text.partition("/") for text in definition.config.exposed_ports]
            return _port_in(
                filters.get("expose"), [(int(port), kind or "tcp") for port, _, kind in exposed if port.isdigit()]
            )
        return True


def _port_in(wanted: frozenset[str], ports: list[tuple[int, str]]) -> bool:
    for text in wanted:
        span, _, protocol = text.partition("/")
        first, _, last = span.partition("-")
        if not (first.isdigit() and (last or first).isdigit()):
            raise InvalidArgument(f"invalid filter 'publish/expose={text}'")
        if any(int(first) <= port <= int(last or first) and kind == (protocol or "tcp") for port, kind in ports):
            return True
    return False


def utc_now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)
