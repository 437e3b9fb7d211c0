from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from enxame import daemon, node
from enxame.daemon_config import DaemonConfig


class StoppedOnceStarted:
    """A node that keeps what it made at its start, and is told to stop as soon as it has started."""

    frozen_at_the_end = 0

    def __init__(self, *_: object) -> None:
        self.made: list[list[int]] = []

    async def start(self) -> None:
        self.made = [[number] for number in range(50_000)]
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGTERM)

    async def stop(self) -> None:
        StoppedOnceStarted.frozen_at_the_end = gc.get_freeze_count()


@pytest.fixture
def unfrozen() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("unfrozen")
def test_collections_spare_what_the_start_has_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = DaemonConfig(hosts=[], data_root=tmp_path, exec_root=tmp_path, pidfile=tmp_path / "pid")
    monkeypatch.setattr(node, "Node", StoppedOnceStarted)
    asyncio.run(daemon._serve(config))
    assert StoppedOnceStarted.frozen_at_the_end > 50_000
