"""What a service's spec leaves open: the values that Swarm stores, and those that it only shows when asked."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from enxame.model.service import (
    DEFAULT_MONITOR,
    DEFAULT_RESTART_DELAY,
    DEFAULT_STOP_GRACE,
    ContainerSpec,
    DNSConfig,
    EndpointSpec,
    Limit,
    Placement,
    ReplicatedJob,
    ReplicatedService,
    Reservation,
    ResourceRequirements,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    UpdateConfig,
)

__all__ = ["insert_defaults", "normal"]

_DEFAULT_UPDATE: Final = UpdateConfig(
    parallelism=1, failure_action="pause", monitor=DEFAULT_MONITOR, order="stop-first"
)


def normal(spec: ServiceSpec) -> ServiceSpec:
    """The spec as it is stored: what is there is spelt out, what is not stays out."""
    template = spec.task_template
    policy = template.restart_policy
    container = template.container_spec
    return replace(
        spec,
        mode=_normal_mode(spec.mode),
        update_config=_normal_update(spec.update_config),
        rollback_config=_normal_update(spec.rollback_config),
        endpoint_spec=None if spec.endpoint_spec is None else _normal_endpoint(spec.endpoint_spec),
        task_template=replace(
            template,
            runtime=template.runtime or "container",
            container_spec=None
            if container is None
            else replace(container, isolation=container.isolation or "default"),
            restart_policy=None
            if policy is None
            else replace(policy, condition=policy.condition or "any", max_attempts=policy.max_attempts or 0),
        ),
    )


def _normal_mode(mode: ServiceMode) -> ServiceMode:
    if mode.replicated_job is not None:
        concurrent = mode.replicated_job.max_concurrent
        concurrent = 1 if concurrent is None else concurrent
        total = mode.replicated_job.total_completions
        job = ReplicatedJob(max_concurrent=concurrent, total_completions=concurrent if total is None else total)
        return replace(mode, replicated_job=job)
    if mode.global_ is not None or mode.global_job is not None:
        return mode
    if mode.replicated is None or mode.replicated.replicas is None:
        return ServiceMode(replicated=ReplicatedService(replicas=1))
    return mode


def _normal_update(config: UpdateConfig | None) -> UpdateConfig | None:
    if config is None:
        return None
    return replace(config, failure_action=config.failure_action or "pause", order=config.order or "stop-first")


def _normal_endpoint(endpoint: EndpointSpec) -> EndpointSpec:
    ports = [
        replace(port, protocol=port.protocol or "tcp", publish_mode=port.publish_mode or "ingress")
        for port in endpoint.ports
    ]
    return EndpointSpec(mode=endpoint.mode or "vip", ports=ports)


def insert_defaults(spec: ServiceSpec) -> ServiceSpec:
    """The spec with every default filled in, as ``insertDefaults=true`` shows it."""
    template = spec.task_template
    resources = template.resources or ResourceRequirements()
    policy = template.restart_policy or RestartPolicy(condition="any", max_attempts=0)
    container = template.container_spec
    if spec.mode.replicated_job is not None or spec.mode.global_job is not None:
        # Jobs are not updated task by task.
        update = rollback = None
    else:
        update, rollback = _update_defaults(spec.update_config), _update_defaults(spec.rollback_config)
    return replace(
        spec,
        task_template=replace(
            template,
            container_spec=None if container is None else _container_defaults(container),
            resources=replace(
                resources, limits=resources.limits or Limit(), reservations=resources.reservations or Reservation()
            ),
            restart_policy=replace(policy, delay=DEFAULT_RESTART_DELAY if policy.delay is None else policy.delay),
            placement=template.placement or Placement(),
        ),
        update_config=update,
        rollback_config=rollback,
        endpoint_spec=spec.endpoint_spec or EndpointSpec(mode="vip"),
    )


def _container_defaults(container: ContainerSpec) -> ContainerSpec:
    grace = container.stop_grace_period
    return replace(
        container,
        stop_grace_period=DEFAULT_STOP_GRACE if grace is None else grace,
        dns_config=container.dns_config or DNSConfig(),
    )


def _update_defaults(config: UpdateConfig | None) -> UpdateConfig:
    if config is None:
        return _DEFAULT_UPDATE
    return replace(config, monitor=config.monitor or DEFAULT_MONITOR)
