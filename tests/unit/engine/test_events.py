"""The event bus: filters as `docker events` knows them, the past, the end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from enxame.engine.events import EventBus
from enxame.model.event import EventMessage
from enxame.model.filters import Filters

SECOND = 1_000_000_000


class Clock:
    now = 100 * SECOND

    def __call__(self) -> int:
        self.now += 1
        return self.now


@pytest.fixture
def bus() -> EventBus:
    bus = EventBus(Clock())
    attributes = {"name": "web1", "image": "shop/web:v1", "tier": "front"}
    bus.publish("container", "create", "c1" * 32, attributes)
    bus.publish("container", "exec_start: ls -l", "c1" * 32, attributes)
    bus.publish("container", "health_status: healthy", "c2" * 32, {"name": "db", "image": "sha256:aa"})
    bus.publish("image", "pull", "shop/web:v1", {"name": "shop/web"})
    bus.publish("volume", "mount", "kept", {"container": "c1" * 32})
    bus.publish("network", "connect", "n1" * 32, {"name": "back", "container": "c1" * 32})
    bus.publish("service", "update", "s1" * 12, {"name": "web"}, scope="swarm")
    bus.publish("daemon", "reload", "d1", {"name": "here"})
    return bus


async def _past(bus: EventBus, since: int | None = 0, until: int | None = 200 * SECOND, **wanted: str) -> list[str]:
    filters = Filters({name.replace("_", "-"): frozenset({value}) for name, value in wanted.items()})
    stream = bus.subscribe(filters, since, min(until or 0, 100 * SECOND + 50))
    return [f"{event.type} {event.action.partition(':')[0]}" async for event in stream]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"type": "volume"}, ["volume mount"]),
        ({"event": "exec_start"}, ["container exec_start"]),
        ({"event": "health_status"}, ["container health_status"]),
        ({"event": "health_status: healthy"}, ["container health_status"]),
        ({"scope": "swarm"}, ["service update"]),
        ({"label": "tier=front"}, ["container create", "container exec_start"]),
        ({"label": "tier"}, ["container create", "container exec_start"]),
        ({"label": "tier=back"}, []),
        ({"container": "we"}, ["container create", "container exec_start"]),
        ({"container": "c2c2"}, ["container health_status"]),
        (
            {"container": "c1" * 32},
            ["container create", "container exec_start", "volume mount", "network connect"],
        ),
        ({"image": "shop/web"}, ["container create", "container exec_start", "image pull"]),
        ({"image": "shop/web:v1"}, ["container create", "container exec_start", "image pull"]),
        ({"image": "shop"}, []),
        ({"volume": "kept"}, ["volume mount"]),
        ({"network": "back"}, ["network connect"]),
        ({"service": "web"}, ["service update"]),
        ({"daemon": "d1"}, ["daemon reload"]),
        ({"plugin": "x"}, []),
        ({"node": "x"}, []),
        ({"secret": "x"}, []),
        ({"config": "x"}, []),
        ({"type": "container", "event": "create"}, ["container create"]),
    ],
)
async def test_filters_find_what_docker_finds(bus: EventBus, wanted: dict[str, str], found: list[str]) -> None:
    assert await _past(bus, **wanted) == found


async def test_since_and_until_are_exact_to_the_nanosecond(bus: EventBus) -> None:
    stream = bus.subscribe(Filters(), 100 * SECOND + 3, 100 * SECOND + 4)
    assert [event.time_nano - 100 * SECOND async for event in stream] == [3, 4]


async def test_without_since_only_what_comes_is_told(bus: EventBus) -> None:
    stream: AsyncIterator[EventMessage] = bus.subscribe(Filters(), None, None)
    assert bus.listeners == 1
    bus.publish("volume", "create", "new", {})
    async with asyncio.timeout(5):
        event: Any = await anext(stream)
    assert event.actor.id == "new"
    await stream.aclose()  # type: ignore[attr-defined]
    assert bus.listeners == 0
