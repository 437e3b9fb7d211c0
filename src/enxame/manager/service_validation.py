"""The rules for a service's spec that need nothing but the spec."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from enxame.agent.template import TemplateContext, expand
from enxame.control import constraint
from enxame.engine.images import reference
from enxame.errors import EnxameError, InvalidArgument, rpc_error
from enxame.manager.network_validation import check_dns_name
from enxame.model.cluster import NANOSECONDS
from enxame.model.container import HealthConfig, Mount
from enxame.model.node import NodeDescription
from enxame.model.service import (
    ConfigReference,
    ContainerSpec,
    CredentialSpec,
    EndpointSpec,
    FileTarget,
    GenericResource,
    ResourceRequirements,
    RestartPolicy,
    SecretReference,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from enxame.model.task import Task

__all__ = ["validate"]

_MIN_NANO_CPUS: Final = 1_000_000
_MIN_MEMORY: Final = 4 * 1024 * 1024
_MIN_HEALTH_DURATION: Final = NANOSECONDS // 1000
_MOUNT_TYPES: Final = frozenset({"", "bind", "volume", "tmpfs", "npipe", "cluster", "image"})
_PROPAGATIONS: Final = frozenset({"", "rprivate", "private", "rshared", "shared", "rslave", "slave"})
_PROTOCOLS: Final = frozenset({"", "tcp", "udp", "sctp"})
_PUBLISH_MODES: Final = frozenset({"", "ingress", "host"})
_RESOURCE_KIND: Final = re.compile(r"\S+")


class _Resources(Protocol):
    @property
    def nano_cpus(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...


def validate(spec: ServiceSpec) -> None:
    """Check a spec.

    Raises:
        InvalidArgument: out of rule, in Swarm's words.
        EnxameError: a constraint that cannot be read (500, as Swarm).
    """
    _check_words(spec)
    check_dns_name(spec.name)
    _check_template(spec.task_template)
    _check_jobs(spec)
    for config in (spec.update_config, spec.rollback_config):
        _check_update(config)
    _check_endpoint(spec.endpoint_spec)
    _check_counts(spec.mode)


def _invalid(desc: str) -> EnxameError:
    return rpc_error("InvalidArgument", desc)


def _check_words(spec: ServiceSpec) -> None:
    """Values of a fixed set; these errors are the engine's, not the swarm's core's."""
    template = spec.task_template
    if template.runtime == "attachment":
        raise InvalidArgument('invalid task spec: spec type "attachment" not supported')
    if template.runtime not in ("", "container"):
        raise InvalidArgument("unsupported runtime")
    if template.container_spec is None:
        raise InvalidArgument("mismatched Runtime and *Spec fields")
    policy = template.restart_policy
    if policy is not None and policy.condition not in ("", "none", "on-failure", "any"):
        raise InvalidArgument(f'invalid RestartCondition: "{policy.condition}"')
    for config in (spec.update_config, spec.rollback_config):
        if config is None:
            continue
        if config.failure_action not in ("", "pause", "continue", "rollback"):
            raise InvalidArgument(f"unrecognized update failure action {config.failure_action}")
        if config.order not in ("", "stop-first", "start-first"):
            raise InvalidArgument(f"unrecognized update order {config.order}")
    if spec.endpoint_spec is not None and spec.endpoint_spec.mode not in ("", "vip", "dnsrr"):
        raise InvalidArgument(f'invalid resolution mode: "{spec.endpoint_spec.mode}"')
    mode = spec.mode
    if sum(part is not None for part in (mode.global_, mode.replicated, mode.replicated_job, mode.global_job)) > 1:
        raise InvalidArgument("must specify only one service mode")
    _check_container_words(template.container_spec)


def _check_container_words(container: ContainerSpec) -> None:
    for mount in container.mounts:
        if mount.type not in _MOUNT_TYPES:
            raise InvalidArgument(f'invalid MountType: "{mount.type}"')
        if mount.bind_options is not None and mount.bind_options.propagation not in _PROPAGATIONS:
            raise InvalidArgument(f'invalid MountPropagation: "{mount.bind_options.propagation}"')
    for config in container.configs:
        if config.runtime is None and config.file is None:
            raise InvalidArgument("invalid Config: either File or Runtime should be set")
        if config.runtime is not None and config.file is not None:
            raise InvalidArgument("invalid Config: cannot specify both File and Runtime")
    if container.privileges is not None and container.privileges.credential_spec is not None:
        _check_credential_spec(container.privileges.credential_spec)


def _check_credential_spec(spec: CredentialSpec) -> None:
    given = [
        f'"{name}"'
        for name, value in (("config", spec.config), ("file", spec.file), ("registry", spec.registry))
        if value
    ]
    if not given:
        raise InvalidArgument(
            'invalid CredentialSpec: must either provide "file", "registry", or "config" for credential spec'
        )
    if len(given) == 2:
        raise InvalidArgument(f"invalid CredentialSpec: cannot specify both {given[0]} and {given[1]} credential specs")
    if len(given) == 3:
        raise InvalidArgument(
            f"invalid CredentialSpec: cannot specify both {', '.join(given[:2])}, and {given[2]} credential specs"
        )


def _check_template(template: TaskSpec) -> None:
    _check_resources(template.resources)
    _check_restart(template.restart_policy)
    if template.placement is not None:
        try:
            constraint.parse(template.placement.constraints)
        except EnxameError as error:
            raise rpc_error("Unknown", error.message) from error
        if template.placement.max_replicas < 0:
            raise _invalid("max replicas per node cannot be negative")
    container = template.container_spec
    if container is None:
        return
    _check_references("secret", [(ref.secret_id, ref.secret_name, _target(ref)) for ref in container.secrets])
    _check_references("config", [(ref.config_id, ref.config_name, _target(ref)) for ref in container.configs])
    _check_container(container)


def _check_resources(resources: ResourceRequirements | None) -> None:
    if resources is None:
        return
    for part in (resources.limits, resources.reservations):
        if part is not None:
            _check_amounts(part)
    if resources.limits is not None and resources.limits.pids < 0:
        raise _invalid("invalid pids limit: must not be negative")
    if resources.reservations is not None:
        _check_generic(resources.reservations.generic_resources)


def _check_amounts(amounts: _Resources) -> None:
    if amounts.nano_cpus != 0 and amounts.nano_cpus < _MIN_NANO_CPUS:
        raise _invalid(f"invalid cpu value {amounts.nano_cpus / NANOSECONDS:g}: Must be at least 0.001")
    if amounts.memory_bytes != 0 and amounts.memory_bytes < _MIN_MEMORY:
        raise _invalid(f"invalid memory value {amounts.memory_bytes}: Must be at least 4MiB")


def _check_generic(resources: Sequence[GenericResource]) -> None:
    for resource in resources:
        if resource.named_resource_spec is not None:
            raise _invalid("invalid argument: Task can only reserve discrete generic resources")
        spec = resource.discrete_resource_spec
        if spec is None or not _RESOURCE_KIND.fullmatch(spec.kind) or spec.value < 0:
            raise _invalid("invalid argument: malformed generic resource")


def _check_restart(policy: RestartPolicy | None) -> None:
    if policy is None:
        return
    for name, value in (
        ("restart-delay", policy.delay),
        ("restart-max-attempts", policy.max_attempts),
        ("restart-window", policy.window),
    ):
        if value is not None and value < 0:
            raise _invalid(f"TaskSpec: {name} cannot be negative")


def _target(ref: SecretReference | ConfigReference) -> FileTarget | str | None:
    """The file, None when there is no target at all, or empty text for a target that is no file."""
    if ref.file is None and isinstance(ref, ConfigReference) and ref.runtime is not None:
        return ""
    return ref.file


def _check_references(noun: str, references: Iterable[tuple[str, str, FileTarget | str | None]]) -> None:
    names: dict[str, str] = {}
    for object_id, name, target in references:
        if not object_id or not name:
            raise _invalid(f"malformed {noun} reference")
        if target is None:
            raise _invalid(f"malformed {noun} reference, no target provided")
        if isinstance(target, str):
            continue
        if not target.name:
            raise _invalid(
                "malformed file secret reference, invalid target file name provided"
                if noun == "secret"
                else "malformed file config reference, invalid target file name provided"
            )
        if target.name in names:
            raise _invalid(
                f"{noun} references '{names[target.name]}' and '{name}' have a conflicting target: '{target.name}'"
            )
        names[target.name] = name


def _check_container(container: ContainerSpec) -> None:
    _check_templates(container)
    if not container.image:
        raise _invalid("ContainerSpec: image reference must be provided")
    try:
        reference.parse(container.image)
    except InvalidArgument:
        raise _invalid(f'ContainerSpec: "{container.image}" is not a valid repository/tag') from None
    _check_mounts(container.mounts)
    if container.healthcheck is not None:
        _check_health(container.healthcheck)
    if container.stop_grace_period is not None and container.stop_grace_period < 0:
        raise _invalid("ContainerSpec: stop grace period cannot be negative")


def _check_mounts(mounts: Sequence[Mount]) -> None:
    targets: set[str] = set()
    for mount in mounts:
        if mount.target in targets:
            raise _invalid(f"ContainerSpec: duplicate mount point: {mount.target}")
        targets.add(mount.target)


def _check_health(health: HealthConfig) -> None:
    for name, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value != 0 and value < _MIN_HEALTH_DURATION:
            raise _invalid(f"ContainerSpec: {name} in HealthConfig cannot be less than 1ms")
    if health.retries < 0:
        raise _invalid("ContainerSpec: Retries in HealthConfig cannot be negative")


def _check_templates(container: ContainerSpec) -> None:
    """Expand with made-up values: a template that no task could expand is refused at once."""
    context = TemplateContext(Task(id="taskid", service_id="serviceid", slot=1, node_id="nodeid"), NodeDescription())
    texts = [(container.hostname, "hostname"), *((text, "env") for text in container.env)]
    texts += [(text, "mounts") for mount in container.mounts for text in (mount.source, mount.target)]
    for text, what in texts:
        try:
            expand(text, context, what)
        except InvalidArgument as error:
            raise _invalid(error.message) from error


def _check_jobs(spec: ServiceSpec) -> None:
    if spec.mode.replicated_job is None and spec.mode.global_job is None:
        return
    if spec.update_config is not None or spec.rollback_config is not None:
        raise _invalid("update and rollback configuration is not supported for jobs")
    policy = spec.task_template.restart_policy
    if policy is not None and policy.condition == "any":
        raise _invalid("restart condition 'any' is not supported for jobs")


def _check_update(config: UpdateConfig | None) -> None:
    if config is None:
        return
    if config.parallelism < 0:
        raise _invalid("TaskSpec: update-parallelism cannot be negative")
    if config.delay < 0:
        raise _invalid("TaskSpec: update-delay cannot be negative")
    if config.monitor < 0:
        raise _invalid("TaskSpec: update-monitor cannot be negative")
    if not 0 <= config.max_failure_ratio <= 1:
        raise _invalid("TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1")


def _check_endpoint(endpoint: EndpointSpec | None) -> None:
    if endpoint is None:
        return
    published: set[tuple[int, str]] = set()
    for port in endpoint.ports:
        if port.protocol not in _PROTOCOLS:
            raise InvalidArgument(f'invalid protocol: "{port.protocol}"')
        if port.publish_mode not in _PUBLISH_MODES:
            raise InvalidArgument(f'invalid publish mode: "{port.publish_mode}"')
        if endpoint.mode == "dnsrr" and port.publish_mode in ("", "ingress"):
            raise _invalid("EndpointSpec: port published with ingress mode can't be used with dnsrr mode")
        for number, least in ((port.target_port, 1), (port.published_port, 0)):
            if not least <= number <= 65535:
                raise _invalid(f"EndpointSpec: invalid port {number}: must be between 1 and 65535")
        if port.published_port == 0:
            continue
        key = (port.published_port, port.protocol or "tcp")
        if key in published:
            raise _invalid("EndpointSpec: duplicate published ports provided")
        published.add(key)


def _check_counts(mode: ServiceMode) -> None:
    if mode.replicated is not None and (mode.replicated.replicas or 0) < 0:
        raise _invalid("Number of replicas must be non-negative")
    if mode.replicated_job is not None:
        if (mode.replicated_job.max_concurrent or 0) < 0:
            raise _invalid("Maximum concurrent jobs must not be negative")
        if (mode.replicated_job.total_completions or 0) < 0:
            raise _invalid("Total completed jobs must not be negative")
