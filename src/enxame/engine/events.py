"""What happens on this machine, told to whoever listens; a ring of the last events serves ``since``."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Protocol

from enxame.model.event import EventActor, EventMessage
from enxame.model.filters import Filters

HISTORY = 256
#: A listener that lets so many events pile up is cut off: memory stays bounded.
_BACKLOG = 16_384


class EventPublisher(Protocol):
    """Where events go."""

    def publish(self, type_: str, action: str, actor_id: str, attributes: dict[str, str], scope: str = "local") -> None:
        """Tell of one event."""


class EventBus:
    """Publishing never waits. ``wall_ns`` gives the time in nanoseconds since 1970."""

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._wall_ns = wall_ns
        self._history: deque[EventMessage] = deque(maxlen=HISTORY)
        self._queues: set[asyncio.Queue[EventMessage | None]] = set()

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return len(self._queues)

    def publish(
        self, type_: str, action: str, actor_id: str, attributes: Mapping[str, str], scope: str = "local"
    ) -> None:
        """Tell that ``action`` happened to the object ``actor_id`` of kind ``type_`` (container, image, …)."""
        now = self._wall_ns()
        old_names = type_ in {"container", "image"}
        event = EventMessage(
            status=action if old_names else "",
            id=actor_id if old_names else "",
            from_=attributes.get("image", "") if type_ == "container" else "",
            type=type_,
            action=action,
            actor=EventActor(id=actor_id, attributes=dict(attributes)),
            scope=scope,
            time=now // 1_000_000_000,
            time_nano=now,
        )
        self._history.append(event)
        for queue in list(self._queues):
            if queue.qsize() >= _BACKLOG:
                self._queues.discard(queue)
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    def subscribe(self, filters: Filters, since: int | None, until: int | None) -> AsyncGenerator[EventMessage]:
        """Events that pass ``filters`` from ``since`` (nanoseconds since 1970; None: now) to ``until`` (None: no end).

        Listening begins with this call, not with the first event taken. Ends when the listener falls far behind.
        """
        queue: asyncio.Queue[EventMessage | None] = asyncio.Queue()
        past = [] if since is None else [event for event in self._history if event.time_nano >= since]
        self._queues.add(queue)
        return self._stream(queue, past, filters, until)

    async def _stream(
        self,
        queue: asyncio.Queue[EventMessage | None],
        past: list[EventMessage],
        filters: Filters,
        until: int | None,
    ) -> AsyncGenerator[EventMessage]:
        try:
            for event in past:
                if (until is None or event.time_nano <= until) and matches(event, filters):
                    yield event
            left = None if until is None else max((until - self._wall_ns()) / 1e9, 0.0)
            if left == 0.0:
                return
            async with asyncio.timeout(left):
                while (event_or_end := await queue.get()) is not None:
                    if matches(event_or_end, filters):
                        yield event_or_end
        except TimeoutError:
            return
        finally:
            self._queues.discard(queue)


_KINDS = ("container", "image", "volume", "network", "daemon", "plugin", "node", "service", "secret", "config")


def matches(event: EventMessage, filters: Filters) -> bool:
    """Whether an event passes ``docker events --filter``."""
    # "exec_start: cmd" and "health_status: healthy" are found by the word before the colon as well.
    actions = {event.action, event.action.partition(":")[0]}
    if "event" in filters and not actions & filters.get("event"):
        return False
    if "type" in filters and event.type not in filters.get("type"):
        return False
    if "scope" in filters and event.scope not in filters.get("scope"):
        return False
    if not filters.labels_match(event.actor.attributes):
        return False
    return all(_is_about(event, kind, filters.get(kind)) for kind in _KINDS if kind in filters)


def _is_about(event: EventMessage, kind: str, wanted: frozenset[str]) -> bool:
    """By the beginning of id or name; images, and objects that an event of another kind names, by the whole of it."""
    attributes = event.actor.attributes
    name = attributes.get("name", "")
    if kind == "image":
        names = {attributes.get("image", "")} if event.type == "container" else {event.actor.id, name}
        return event.type in ("image", "container") and bool(wanted & (names | {_untagged(text) for text in names}))
    if event.type == kind:
        return any(text and (event.actor.id.startswith(text) or name.startswith(text)) for text in wanted)
    named = attributes.get(kind, "")
    return bool(named) and any(named == text or (len(text) >= 12 and named.startswith(text)) for text in wanted)


def _untagged(name: str) -> str:
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name
