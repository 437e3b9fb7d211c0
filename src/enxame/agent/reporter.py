"""Carries the tasks' statuses to the manager: the newest of each task, in batches that grow only under load."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from enxame.model.dispatch import TaskStatusUpdate
from enxame.model.task import TaskStatus

log = logging.getLogger(__name__)

#: Between two tries when the manager cannot take a batch: seconds.
RETRY_DELAY = 0.5


class StatusSink(Protocol):
    """Who takes the statuses."""

    async def update_status(self, updates: list[TaskStatusUpdate]) -> None:
        """Returns once they are committed."""
        ...


class StatusReporter:
    """While one batch is on its way the next gathers; a status that was overtaken is never sent."""

    def __init__(self) -> None:
        self._pending: dict[str, TaskStatus] = {}
        self._wake = asyncio.Event()

    def report(self, task_id: str, status: TaskStatus) -> None:
        """Take a task's new status. Earlier ones that were not sent yet are dropped."""
        self._pending[task_id] = status
        self._wake.set()

    async def run(self, sink: StatusSink) -> None:
        """Send until cancelled. A batch that failed is sent again, with what came meanwhile on top."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._pending = self._pending, {}
            if not batch:
                continue
            try:
                await sink.update_status(
                    [TaskStatusUpdate(task_id=task, status=status) for task, status in batch.items()]
                )
            except BaseException as error:
                self._pending = {**batch, **self._pending}
                self._wake.set()
                if not isinstance(error, Exception):
                    raise
                log.warning("the manager did not take %d task statuses, trying again: %s", len(batch), error)
                await asyncio.sleep(RETRY_DELAY)
