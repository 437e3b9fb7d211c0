"""A task's spec as the container it becomes (pure).

Follows moby's daemon/cluster/executor/container/container.go: names, labels, ports, mounts and limits are the same, so
that tools which look at a node's containers find what they expect.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from enxame.agent.template import TemplateContext, expand
from enxame.errors import InvalidArgument
from enxame.model.container import (
    ContainerConfig,
    ContainerCreateRequest,
    ContainerRestartPolicy,
    Empty,
    EndpointIPAMConfig,
    EndpointSettings,
    HostConfig,
    LogConfig,
    Mount,
    NetworkingConfig,
    PortBinding,
)
from enxame.model.service import ContainerSpec, GenericResource, PortConfig, Privileges
from enxame.model.task import NetworkAttachment, Task

#: Networks that exist on every machine; a task attached to one of them shares nothing across machines.
NODE_LOCAL_NETWORKS: Final = frozenset({"host", "bridge", "none"})

LABEL_PREFIX: Final = "com.docker.swarm"


def container_name(task: Task) -> str:
    """``<service>.<slot or node id>.<task id>``."""
    service = task.internal.service_name if task.internal else ""
    return f"{service}.{task.slot or task.node_id}.{task.id}"


def task_name(task: Task) -> str:
    """What ``com.docker.swarm.task.name`` says; the container's name."""
    return task.name or container_name(task)


def system_labels(task: Task) -> dict[str, str]:
    """The labels by which tools know a task's container."""
    service = task.internal.service_name if task.internal else ""
    return {
        f"{LABEL_PREFIX}.node.id": task.node_id,
        f"{LABEL_PREFIX}.service.id": task.service_id,
        f"{LABEL_PREFIX}.service.name": service,
        f"{LABEL_PREFIX}.task": "",
        f"{LABEL_PREFIX}.task.id": task.id,
        f"{LABEL_PREFIX}.task.name": task_name(task),
    }


def container_request(
    task: Task, context: TemplateContext, extra_mounts: Iterable[Mount] = ()
) -> ContainerCreateRequest:
    """The body of the container's creation.

    ``extra_mounts`` are those of the task's secrets and configs, which live outside the spec.

    Raises:
        InvalidArgument: the task runs no container, or a template in it is wrong.
    """
    spec = task.spec.container_spec
    if spec is None:
        raise InvalidArgument("task has no container to run")
    config = _config(task, spec, context)
    fields = {name: getattr(config, name) for name in ContainerConfig.__struct_fields__}
    return ContainerCreateRequest(
        **fields,
        host_config=_host_config(task, spec, context, list(extra_mounts)),
        networking_config=NetworkingConfig(endpoints_config=_endpoints(task)),
    )


def _config(task: Task, spec: ContainerSpec, context: TemplateContext) -> ContainerConfig:
    ports = task.internal.ports if task.internal else []
    return ContainerConfig(
        hostname=expand(spec.hostname, context, "hostname"),
        user=spec.user,
        tty=spec.tty,
        open_stdin=spec.open_stdin,
        exposed_ports={_port_key(port): Empty() for port in ports},
        env=[expand(item, context, "env") for item in spec.env]
        + _resource_environment(task.assigned_generic_resources),
        cmd=spec.args or None,
        entrypoint=spec.command or None,
        healthcheck=spec.healthcheck,
        image=spec.image,
        working_dir=spec.dir,
        labels={**spec.labels, **system_labels(task)},
        stop_signal=spec.stop_signal,
    )


def _host_config(task: Task, spec: ContainerSpec, context: TemplateContext, extra_mounts: list[Mount]) -> HostConfig:
    resources = task.spec.resources
    limits = resources.limits if resources else None
    reservations = resources.reservations if resources else None
    dns = spec.dns_config
    log = task.spec.log_driver
    memory = limits.memory_bytes if limits else 0
    return HostConfig(
        network_mode=_network_mode(task.networks_attachments),
        port_bindings=_host_ports(task.internal.ports if task.internal else []),
        restart_policy=ContainerRestartPolicy(name="no"),
        mounts=[_mount(mount, context) for mount in spec.mounts] + extra_mounts,
        cap_add=spec.capability_add or None,
        cap_drop=spec.capability_drop or None,
        dns=dns.nameservers if dns else [],
        dns_search=dns.search if dns else [],
        dns_options=dns.options if dns else [],
        extra_hosts=_extra_hosts(spec.hosts) or None,
        group_add=spec.groups or None,
        readonly_rootfs=spec.read_only,
        sysctls=spec.sysctls,
        ulimits=spec.ulimits or None,
        init=spec.init,
        oom_score_adj=spec.oom_score_adj,
        security_opt=_security_options(spec.privileges) or None,
        log_config=LogConfig(type=log.name, config=log.options) if log else LogConfig(),
        nano_cpus=limits.nano_cpus if limits else 0,
        memory=memory,
        memory_swap=memory + resources.swap_bytes if resources and resources.swap_bytes and memory else 0,
        memory_swappiness=resources.memory_swappiness if resources else None,
        memory_reservation=reservations.memory_bytes if reservations else 0,
        pids_limit=limits.pids if limits and limits.pids else None,
    )


def own_addresses(task: Task, endpoints: Mapping[str, EndpointSettings]) -> dict[str, list[str]]:
    """What the machine gave the task on the swarm's networks where no manager does: CIDR, by network id."""
    ids = {
        item.network.id
        for item in task.networks_attachments
        if not item.addresses and item.network.spec.name not in NODE_LOCAL_NETWORKS
    }
    found = {}
    for endpoint in endpoints.values() if ids else ():
        if endpoint.network_id in ids and endpoint.ip_address:
            found[endpoint.network_id] = [f"{endpoint.ip_address}/{endpoint.ip_prefix_len}"]
            if endpoint.global_ipv6_address:
                found[endpoint.network_id].append(f"{endpoint.global_ipv6_address}/{endpoint.global_ipv6_prefix_len}")
    return found


def _network_mode(attachments: list[NetworkAttachment]) -> str:
    if len(attachments) > 1 and any(attachment.network.spec.name == "host" for attachment in attachments):
        if any(attachment.network.spec.ingress for attachment in attachments):
            raise InvalidArgument("container cannot be disconnected from host network or connected to host network")
        raise InvalidArgument(
            "container sharing network namespace with another container or host cannot be connected to any other "
            "network"
        )
    for attachment in attachments:
        if attachment.network.spec.name in NODE_LOCAL_NETWORKS:
            return attachment.network.spec.name
    return attachments[0].network.id if attachments else "default"


def _endpoints(task: Task) -> dict[str, EndpointSettings]:
    service = task.internal.service_name if task.internal else ""
    own = [service, f"tasks.{service}"] if service else []
    endpoints: dict[str, EndpointSettings] = {}
    for attachment in task.networks_attachments:
        network = attachment.network
        if network.spec.name in NODE_LOCAL_NETWORKS:
            if len(task.networks_attachments) > 1:  # alone, it is the container's network mode that says so
                endpoints[network.spec.name] = EndpointSettings()
            continue
        addresses = EndpointIPAMConfig()
        for address in attachment.addresses:
            plain = address.partition("/")[0]
            if ":" in plain:
                addresses = EndpointIPAMConfig(ipv4_address=addresses.ipv4_address, ipv6_address=plain)
            else:
                addresses = EndpointIPAMConfig(ipv4_address=plain, ipv6_address=addresses.ipv6_address)
        aliases = list(dict.fromkeys([*attachment.aliases, *own]))
        endpoints[network.id] = EndpointSettings(network_id=network.id, ipam_config=addresses, aliases=aliases or None)
    return endpoints


def _port_key(port: PortConfig) -> str:
    return f"{port.target_port}/{port.protocol or 'tcp'}"


def _host_ports(ports: list[PortConfig]) -> dict[str, list[PortBinding]]:
    bindings: dict[str, list[PortBinding]] = {}
    for port in ports:
        if port.publish_mode == "host":
            published = str(port.published_port) if port.published_port else ""
            bindings.setdefault(_port_key(port), []).append(PortBinding(host_port=published))
    return bindings


def _extra_hosts(hosts: list[str]) -> list[str]:
    """The spec has lines of /etc/hosts (``IP name [alias…]``), a container wants ``name:IP``."""
    entries = []
    for line in hosts:
        address, *names = line.split()
        entries += [f"{name}:{address}" for name in names]
    return entries


def _mount(mount: Mount, context: TemplateContext) -> Mount:
    if "{{" not in mount.source:
        return mount
    return replace(mount, source=expand(mount.source, context, "mount source"))


def _security_options(privileges: Privileges | None) -> list[str]:
    if privileges is None:
        return []
    options = []
    if privileges.no_new_privileges:
        options.append("no-new-privileges=true")
    if privileges.seccomp and privileges.seccomp.mode == "unconfined":
        options.append("seccomp=unconfined")
    elif privileges.seccomp and privileges.seccomp.mode == "custom":
        try:
            profile = base64.b64decode(privileges.seccomp.profile, validate=True).decode()
        except ValueError as error:
            raise InvalidArgument(f"invalid custom seccomp profile: {error}") from error
        options.append(f"seccomp={profile}")
    if privileges.apparmor and privileges.apparmor.mode == "disabled":
        options.append("apparmor=unconfined")
    selinux = privileges.selinux_context
    if selinux is not None:
        if selinux.disable:
            options.append("label=disable")
        for key in ("user", "role", "type", "level"):
            value = getattr(selinux, key)
            if value:
                options.append(f"label={key}:{value}")
    return options


def _resource_environment(resources: list[GenericResource]) -> list[str]:
    """``DOCKER_RESOURCE_<KIND>=…`` for each claimed generic resource."""
    collected: dict[str, list[str]] = {}
    for resource in resources:
        if resource.named_resource_spec:
            collected.setdefault(resource.named_resource_spec.kind, []).append(resource.named_resource_spec.value)
        elif resource.discrete_resource_spec:
            collected.setdefault(resource.discrete_resource_spec.kind, []).append(
                str(resource.discrete_resource_spec.value)
            )
    return [f"DOCKER_RESOURCE_{kind.upper()}={','.join(items)}" for kind, items in collected.items()]
