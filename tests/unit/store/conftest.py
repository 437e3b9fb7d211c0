import asyncio
from datetime import UTC, datetime

import pytest

from enxame.model.service import Service, ServiceSpec
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def service(id_, name=None, **fields):
    return Service(id=id_, spec=ServiceSpec(name=name or f"name-{id_}"), **fields)


class HeldBackend(MemoryBackend):
    """A backend whose commits wait until the test lets them go, or fail as the test says."""

    def __init__(self):
        super().__init__()
        self.hold = False
        self.failure = None
        self.commits = []
        self.entered = asyncio.Event()
        self.go = asyncio.Event()

    async def commit(self, mutations):
        self.commits.append(list(mutations))
        self.entered.set()
        if self.hold:
            await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return await super().commit(mutations)


@pytest.fixture
async def store():
    store = Store(MemoryBackend(), wall=lambda: NOW)
    await store.start()
    yield store
    await store.close()


@pytest.fixture
async def held():
    backend = HeldBackend()
    store = Store(backend, wall=lambda: NOW)
    await store.start()
    yield store, backend
    backend.go.set()
    await store.close()
