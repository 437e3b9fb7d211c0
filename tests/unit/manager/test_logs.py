"""The lines of a service's tasks, brought together."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from enxame.errors import EnxameError, NotFound
from enxame.manager.logs import LogBroker
from enxame.model.service import Service, ServiceSpec
from enxame.model.stream import LogOptions, LogRecord
from enxame.model.task import Task, TaskState, TaskStatus
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store

SERVICE = Service(id="s1", spec=ServiceSpec(name="web"))
DEADLINE = 5.0


def task(name, state=TaskState.RUNNING):
    return Task(id=name, service_id="s1", node_id="n1", slot=1, status=TaskStatus(state=state))


def record(second, text):
    return LogRecord(1, f"2026-01-01T00:00:{second:02}.000000000Z", text.encode())


class Logs:
    """Logs by task; a follower gets what is added later too."""

    def __init__(self, **lines):
        self.lines = {name: list(records) for name, records in lines.items()}
        self.added = asyncio.Condition()
        self.ended = False
        self.open_readers = 0

    async def read(self, task, options):
        if task.id not in self.lines:
            raise NotFound("gone")
        if task.id == "broken":
            raise EnxameError("disk on fire")
        self.open_readers += 1
        try:
            position = 0
            while True:
                while position < len(self.lines[task.id]):
                    yield self.lines[task.id][position]
                    position += 1
                if not options.follow or self.ended:
                    return
                async with self.added:
                    await self.added.wait()
        finally:
            self.open_readers -= 1

    async def add(self, name, line):
        async with self.added:
            self.lines.setdefault(name, []).append(line)
            self.added.notify_all()


@pytest.fixture
async def store():
    store = Store(MemoryBackend(), wall=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    await store.start()
    await store.update(lambda tx: tx.create(SERVICE))
    yield store
    await store.close()


async def collect(records):
    return [(line.task_id, line.data.decode()) async for line in records]


async def test_lines_of_several_tasks_come_in_the_order_of_time(store):
    for name in ("a", "b"):
        await store.update(lambda tx, name=name: tx.create(task(name)))
    logs = Logs(a=[record(1, "1"), record(4, "4")], b=[record(2, "2"), record(3, "3")])
    broker = LogBroker(store, logs.read)
    assert await collect(broker.subscribe(service=SERVICE, options=LogOptions())) == [
        ("a", "1"),
        ("b", "2"),
        ("b", "3"),
        ("a", "4"),
    ]


async def test_a_log_that_cannot_be_read_says_so_and_spoils_no_other(store):
    for name in ("a", "broken", "reaped"):
        await store.update(lambda tx, name=name: tx.create(task(name)))
    logs = Logs(a=[record(1, "1")], broken=[])
    lines = await collect(LogBroker(store, logs.read).subscribe(service=SERVICE, options=LogOptions()))
    assert ("a", "1") in lines
    assert len(lines) == 2
    assert "incomplete log stream" in dict(lines)["broken"]


async def test_one_task_alone(store):
    logs = Logs(a=[record(1, "1")], b=[record(2, "2")])
    assert await collect(LogBroker(store, logs.read).subscribe(task=task("b"), options=LogOptions())) == [("b", "2")]


async def test_following_shows_new_lines_and_tasks_that_start_later_until_the_service_goes(store):
    await store.update(lambda tx: tx.create(task("a")))
    logs = Logs(a=[record(1, "1")])
    seen = []

    async def follow():
        async for line in LogBroker(store, logs.read).subscribe(service=SERVICE, options=LogOptions(follow=True)):
            seen.append(line.data.decode())  # noqa: PERF401  # seen one by one, not at the end

    async def until(count):
        while len(seen) < count:
            await asyncio.sleep(0)

    following = asyncio.ensure_future(follow())
    async with asyncio.timeout(DEADLINE):
        await until(1)
        await logs.add("a", record(2, "2"))
        await until(2)
        logs.lines["late"] = [record(3, "3")]
        await store.update(lambda tx: tx.create(task("late", TaskState.ASSIGNED)))
        await store.update(
            lambda tx: tx.update(replace(tx.get(Task, "late"), status=TaskStatus(state=TaskState.RUNNING)))
        )
        await until(3)
        await store.update(lambda tx: tx.delete(Service, "s1"))
        logs.ended = True
        await logs.add("a", record(4, "4"))
        await following
    assert seen == ["1", "2", "3", "4"]
    assert logs.open_readers == 0


async def test_a_client_that_goes_away_ends_all_reading(store):
    await store.update(lambda tx: tx.create(task("a")))
    logs = Logs(a=[record(1, "1")])
    broker = LogBroker(store, logs.read)
    async with asyncio.timeout(DEADLINE):
        async with aclosing(broker.subscribe(service=SERVICE, options=LogOptions(follow=True))) as records:
            assert (await anext(records)).data == b"1"
            assert logs.open_readers == 1
        while logs.open_readers:
            await asyncio.sleep(0)
