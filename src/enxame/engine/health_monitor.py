"""Probes a running container again and again, and tells when its health changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from enxame.engine import health
from enxame.engine.health import Probe
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
