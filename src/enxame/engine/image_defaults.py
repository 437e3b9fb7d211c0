"""What a container inherits from its image. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from enxame.model.container import ContainerConfig, HealthConfig


def as_list(value: list[str] | str | None) -> list[str]:
    """Go's StrSlice: a list, or one word."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def merge(config: ContainerConfig, image: ContainerConfig) -> ContainerConfig:
    """``config`` completed from the image's, as Docker does it."""
    entrypoint, command = as_list(config.entrypoint), as_list(config.cmd)
    if not entrypoint:
        command = command or as_list(image.cmd)
        entrypoint = as_list(image.entrypoint)
    elif entrypoint == [""]:
        entrypoint = []
    return replace(
        config,
        user=config.user or image.user,
        exposed_ports={**image.exposed_ports, **config.exposed_ports},
        env=merge_env(image.env or [], config.env or []),
        cmd=command or None,
        entrypoint=entrypoint or None,
        labels={**image.labels, **config.labels},
        healthcheck=merge_health(config.healthcheck, image.healthcheck),
        working_dir=config.working_dir or image.working_dir,
        volumes={**(image.volumes or {}), **(config.volumes or {})} or None,
        stop_signal=config.stop_signal or image.stop_signal,
        shell=config.shell or image.shell,
    )


def merge_env(base: list[str], wanted: list[str]) -> list[str]:
    """``KEY=value`` texts of both; those ``wanted`` win. A bare ``KEY`` in ``wanted`` removes the variable."""
    values: dict[str, str | None] = {}
    for text in (*base, *wanted):
        key, equals, value = text.partition("=")
        values[key] = value if equals else None
    return [f"{key}={value}" for key, value in values.items() if value is not None]


def merge_health(wanted: HealthConfig | None, image: HealthConfig | None) -> HealthConfig | None:
    """The image's probe with what the container changes of it."""
    if wanted is None or image is None:
        return wanted or image
    return HealthConfig(
        test=wanted.test or image.test,
        interval=wanted.interval or image.interval,
        timeout=wanted.timeout or image.timeout,
        start_period=wanted.start_period or image.start_period,
        start_interval=wanted.start_interval or image.start_interval,
        retries=wanted.retries or image.retries,
    )
