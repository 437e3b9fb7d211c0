"""Events as ``GET /events`` shows them."""

from __future__ import annotations

from msgspec import field

from enxame.model.base import Model, always


class EventActor(Model):
    """What an event is about."""

    id: str = always(default="")
    attributes: dict[str, str] = always(default_factory=dict)


class EventMessage(Model):
    """One event. ``status``, ``id`` and ``from_`` are the old names, shown for containers and images only."""

    status: str = field(default="", name="status")
    id: str = field(default="", name="id")
    from_: str = field(default="", name="from")
    type: str = always(default="")
    action: str = always(default="")
    actor: EventActor = always(default_factory=EventActor)
    scope: str = always(default="local", name="scope")
    time: int = always(default=0, name="time")
    time_nano: int = always(default=0, name="timeNano")
