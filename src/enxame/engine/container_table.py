"""All containers of this machine by id and by name."""

from __future__ import annotations

from collections.abc import Iterator

from enxame.engine import naming
from enxame.engine.container import Container
from enxame.errors import Conflict


class ContainerTable:
    """A name is taken before the container is there: two creates of one name cannot both pass."""

    def __init__(self) -> None:
        self.by_id: dict[str, Container] = {}
        self.names: dict[str, str] = {}

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self.by_id.values()))

    def find(self, ref: str) -> Container:
        """The container that ``ref`` means. Raises NotFound, InvalidArgument."""
        return self.by_id[naming.find(ref, self.by_id.keys(), self.names)]

    def check_free(self, name: str) -> None:
        """Raise Conflict when a container has the name."""
        if (owner := self.names.get(name)) is not None:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{owner}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )

    def add(self, container: Container) -> None:
        """Take a container and its name in."""
        self.names[container.name] = container.id
        self.by_id[container.id] = container

    def drop(self, container: Container) -> None:
        """Forget a container and its name."""
        self.by_id.pop(container.id, None)
        if self.names.get(container.name) == container.id:
            del self.names[container.name]
