"""Health checks: a probe's result to the container's health. Pure; the loop that probes is in ``health_monitor``."""

from __future__ import annotations

from dataclasses import dataclass

from enxame.model.container import HealthConfig
from enxame.model.container_view import Health, HealthResult

_SECOND = 1_000_000_000
_KEPT_RESULTS = 5
OUTPUT_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Probe:
    """A health check with its defaults filled in; times in seconds."""

    command: list[str]
    interval: float
    timeout: float
    start_period: float
    start_interval: float
    retries: int


def probe_of(config: HealthConfig | None, shell: list[str]) -> Probe | None:
    """The probe that a config asks for; None is no health check."""
    if config is None or not config.test or config.test[0] in {"NONE", ""}:
        return None
    arguments = config.test[1:]
    if not arguments:
        return None
    return Probe(
        command=arguments if config.test[0] == "CMD" else [*(shell or ["/bin/sh", "-c"]), arguments[0]],
        interval=(config.interval or 30 * _SECOND) / _SECOND,
        timeout=(config.timeout or 30 * _SECOND) / _SECOND,
        start_period=config.start_period / _SECOND,
        start_interval=(config.start_interval or 5 * _SECOND) / _SECOND,
        retries=config.retries or 3,
    )


def wait_before_next(probe: Probe, health: Health, running_for: float) -> float:
    """Seconds until the next probe: probes come closer together while the container starts."""
    if health.status == "starting" and running_for < probe.start_period:
        return min(probe.start_interval, probe.interval)
    return probe.interval


def after(health: Health, result: HealthResult, probe: Probe, running_for: float) -> Health:
    """The health after one more probe. Failures in the start period do not count."""
    log = [*health.log, result][-_KEPT_RESULTS:]
    if result.exit_code == 0:
        return Health(status="healthy", failing_streak=0, log=log)
    if health.status == "starting" and running_for < probe.start_period:
        return Health(status="starting", failing_streak=health.failing_streak, log=log)
    streak = health.failing_streak + 1
    status = "unhealthy" if streak >= probe.retries else health.status
    return Health(status=status, failing_streak=streak, log=log)
