"""What happens on this machine, told to whoever listens; a ring of the last events serves ``since``."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping

from enxame.model.event import EventActor, EventMessage
from enxame.model.filters import Filters

HISTORY = 256
#: A listener that lets so many events pile up is cut off: memory stays bounded.
_BACKLOG = 16_384


class EventBus:
    """Publishing never waits. ``wall_ns`` gives the time in nanoseconds since 1970."""

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._wall_ns = wall_ns
        self._history: deque[EventMessage] = deque(maxlen=HISTORY)
        self._queues: set[asyncio.Queue[EventMessage | None]] = set()

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

    def subscribe(self, filters: Filters, since: float | None, until: float | None) -> AsyncGenerator[EventMessage]:
        """Events that pass ``filters``, from ``since`` (seconds since 1970; None: from now) to ``until`` (None: on).

        Listening begins with this call, not with the first event taken. Ends when the listener falls far behind.
        """
        queue: asyncio.Queue[EventMessage | None] = asyncio.Queue()
        past = [] if since is None else [event for event in self._history if event.time_nano >= since * 1e9]
        self._queues.add(queue)
        return self._stream(queue, past, filters, until)

    async def _stream(
        self,
        queue: asyncio.Queue[EventMessage | None],
        past: list[EventMessage],
        filters: Filters,
        until: float | None,
    ) -> AsyncGenerator[EventMessage]:
        try:
            for event in past:
                if (until is None or event.time_nano <= until * 1e9) and matches(event, filters):
                    yield event
            left = None if until is None else max(until - self._wall_ns() / 1e9, 0.0)
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


def matches(event: EventMessage, filters: Filters) -> bool:
    """Whether an event passes ``docker events --filter``."""
    attributes = event.actor.attributes
    # "exec_start: cmd" and "health_status: healthy" are found by the word before the colon as well.
    actions = {event.action, event.action.partition(":")[0]}
    if "event" in filters and not actions & filters.get("event"):
        return False
    if "type" in filters and event.type not in filters.get("type"):
        return False
    if "scope" in filters and event.scope not in filters.get("scope"):
        return False
    if not filters.labels_match(attributes):
        return False
    for kind in ("container", "image", "volume", "network", "daemon", "plugin", "node", "service", "secret", "config"):
        if kind in filters and not _is_about(event, kind, filters.get(kind)):
            return False
    return True


def _is_about(event: EventMessage, kind: str, wanted: frozenset[str]) -> bool:
    attributes = event.actor.attributes
    names = {attributes.get("name", "")} if event.type == kind else {attributes.get(kind, "")}
    if kind == "image" and event.type == "container":
        names = {attributes.get("image", ""), attributes.get("image", "").rpartition(":")[0]}
    if event.type == kind:
        names.add(event.actor.id)
        return any(text in names or (len(text) >= 4 and event.actor.id.startswith(text)) for text in wanted)
    return bool((names - {""}) & wanted)
