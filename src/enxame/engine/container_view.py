"""Containers as the API shows them. Pure."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path

from enxame.durations import duration_words
from enxame.engine.container import Container
from enxame.engine.image_defaults import as_list
from enxame.engine.sandbox import SandboxInfo
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


def show(container: Container, directory: Path, log_path: Path, *, graph: dict[str, str]) -> ContainerInspect:
    """``GET /containers/{id}/json``, without sizes."""
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
        mounts=container.condition.mounts,
        config=definition.config,
        network_settings=show_network_settings(container),
    )


def summarize(
    container: Container, now: datetime, *, sizes: tuple[int, int] | None, image: str = ""
) -> ContainerSummary:
    """An item of ``GET /containers/json``; ``image``: a name that means its image, if there still is one."""
    definition = container.definition
    words = [*as_list(definition.config.entrypoint), *as_list(definition.config.cmd)]
    return ContainerSummary(
        id=definition.id,
        names=[f"/{definition.name}"],
        image=image or definition.image_id,
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
        return f"Restarting ({condition.exit_code}) {_since(condition.finished_at, now)} ago"
    if condition.status == "running":
        text = f"Up {_since(condition.started_at, now)}"
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
    return f"Exited ({condition.exit_code}) {_since(condition.finished_at, now)} ago"


def _since(moment: datetime, now: datetime) -> str:
    return duration_words((now - moment).total_seconds())


def utc_now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)
