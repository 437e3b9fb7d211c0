"""What the store promises to those who decide (``control``, ``manager``): reads, transactions, events.

No I/O here: ``control`` imports this module alone of the package.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from enxame.model.base import Meta

T = TypeVar("T", bound=Meta)


class Action(Enum):
    """What happened to an object."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Event:
    """One object's change, as committed. ``old`` is the object before (``None`` on create); on delete ``object`` is the
    last one that was stored. ``version`` is the store's revision of the commit: all events of a commit share it.
    """

    action: Action
    object: Meta
    old: Meta | None
    version: int


class View(Protocol):
    """Reads. Objects are frozen and shared: never mutate what they hold.

    Indexes (``find``): every kind ``name`` (of its spec), ``Task``: ``service_id``, ``node_id``, ``slot`` (a tuple
    ``(service_id, slot)``), ``desired_state`` (:class:`~enxame.model.task.TaskState`), ``network_id`` (attached to it);
    ``Attachment``: ``node_id``, ``network_id``;
    ``Service``: ``network_id``, ``secret_id``, ``config_id`` (referred to by the task template).
    """

    def get(self, kind: type[T], object_id: str) -> T | None:
        """The object with this full id, or None."""
        ...

    def all(self, kind: type[T]) -> Iterable[T]:
        """All objects of a kind, in no particular order."""
        ...

    def find(self, kind: type[T], index: str, value: object) -> list[T]:
        """Objects whose index has this value."""
        ...


class Tx(View, Protocol):
    """A view with the transaction's own changes on top. Nothing is visible to others before the commit; an exception
    in the transaction's function drops all of it.
    """

    def create(self, obj: Meta) -> None:
        """Add an object. Raises Conflict on a taken id or name (where the kind's names are unique)."""
        ...

    def update(self, obj: Meta) -> None:
        """Replace an object. Raises ``update out of sequence`` (500, as Swarm) unless ``obj.version`` is the stored
        one, NotFound when there is none. The commit sets the new version and ``updated_at``.
        """
        ...

    def delete(self, kind: type[Meta], object_id: str) -> None:
        """Remove an object. Raises NotFound."""
        ...
