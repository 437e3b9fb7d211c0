"""Probes a running container again and again, and tells when its health changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from msgspec.structs import replace

from enxame.engine import health
from enxame.engine.container import Container
from enxame.engine.health import Probe, probe_of
from enxame.engine.surroundings import Surroundings
from enxame.model.container_view import Health, HealthResult

#: Runs one probe: its exit code and output. TimeoutError when it took longer than its timeout.
RunProbe = Callable[[Probe], Awaitable[tuple[int, str]]]


async def watch_health(
    probe: Probe, current: Health, started_mono: float, run: RunProbe, changed: Callable[[Health, bool], None]
) -> None:
    """Probe until cancelled. ``changed(health, status_changed)`` is told after every probe."""
    state = current
    while True:
        await asyncio.sleep(health.wait_before_next(probe, state, time.monotonic() - started_mono))
        begun = datetime.now(UTC)
        try:
            code, output = await run(probe)
        except TimeoutError:
            code, output = -1, f"Health check exceeded timeout ({probe.timeout:g}s)"
        result = HealthResult(start=begun, end=datetime.now(UTC), exit_code=code, output=output[: health.OUTPUT_LIMIT])
        before = state.status
        state = health.after(state, result, probe, time.monotonic() - started_mono)
        changed(state, state.status != before)


class HealthMonitors:
    """Watches the health of what runs. ``run`` probes one container."""

    def __init__(self, around: Surroundings, run: Callable[[Container, Probe], Awaitable[tuple[int, str]]]) -> None:
        self._around, self._run = around, run

    def started(self, container: Container) -> None:
        """A container runs: watch its health."""
        config = container.definition.config
        probe = probe_of(config.healthcheck, config.shell)
        if probe is None:
            if container.condition.health is not None:
                self._around.change(container, health=None)
            return
        adopted = container.condition.health
        health = adopted if container.adopted and adopted is not None else Health()
        self._around.change(container, health=health)
        container.health = self._around.background.start(
            watch_health(
                probe,
                health,
                container.started_mono,
                lambda probe: self._run(container, probe),
                lambda health, changed: self._changed(container, health, changed=changed),
            ),
            f"health {container.id[:12]}",
        )

    def _changed(self, container: Container, health: Health, *, changed: bool) -> None:
        if not container.running:
            return
        if not changed:
            container.condition = replace(container.condition, health=health)
            return
        self._around.change(container, health=health)
        self._around.publish(container, f"health_status: {health.status}")
