"""What is told of images: events with the image's name and labels."""

from __future__ import annotations

import contextlib

from enxame.engine.events import EventPublisher
from enxame.engine.images.index import ImageIndex
from enxame.errors import InvalidArgument, NotFound

__all__ = ["ImageEvents"]


class ImageEvents:
    """Events of the images in ``index``."""

    def __init__(self, publisher: EventPublisher, index: ImageIndex) -> None:
        self.publisher = publisher
        self._index = index

    def publish(self, action: str, actor: str, name: str) -> None:
        """Tell of one image. ``actor`` is its id or name, as Docker has it with that action."""
        labels: dict[str, str] = {}
        with contextlib.suppress(NotFound, InvalidArgument):
            labels = self._index.lookup(actor).image.config.labels
        self.publisher.publish("image", action, actor, {**labels, "name": name})

    def publish_prune(self, freed: int) -> None:
        """Tell that unused images went, and ``freed`` bytes with them."""
        self.publisher.publish("image", "prune", "", {"reclaimed": str(freed)})
