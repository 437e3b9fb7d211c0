"""A new image out of a container: its image's layers, what it wrote, and its configuration with changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from enxame.engine.container import Container
from enxame.engine.files.container_files import ContainerFiles
from enxame.engine.image_defaults import as_list, merge
from enxame.engine.images.changes import apply_changes
from enxame.engine.images.reference import parse_repository
from enxame.engine.surroundings import Surroundings
from enxame.errors import Conflict
from enxame.model.container import ContainerConfig
from enxame.model.image import ImageConfig

_FIELDS = tuple(ContainerConfig.__struct_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest:
    """``config``: what is set there replaces the container's. ``changes``: Dockerfile instructions.
    ``pause``: the container stands still meanwhile.
    """

    repository: str = ""
    tag: str = ""
    author: str = ""
    message: str = ""
    pause: bool = True
    changes: Sequence[str] = ()
    config: ContainerConfig | None = None


async def commit_container(
    around: Surroundings, files: ContainerFiles, container: Container, request: CommitRequest
) -> str:
    """Make the image; returns its id.

    Raises:
        InvalidArgument: a bad name or change.
        Conflict: the container is being removed.
    """
    if container.removing:
        raise Conflict(f"You cannot commit container {container.id} which is being removed")
    own = container.definition.config
    config = image_config(own, request)
    words = [*as_list(own.entrypoint), *as_list(own.cmd)]
    written = await files.changes(container.id)
    # The filesystem is there from here on, also for one that was never started.
    async with files.export(container.id, layer=True) as layer:
        image_id = await around.images.commit(
            container.id,
            layer if written else None,
            image_id=container.definition.image_id,
            config=config,
            repository=request.repository,
            tag=request.tag,
            author=request.author,
            message=request.message,
            created_by=" ".join(words),
        )
    named = {"imageRef": parse_repository(request.repository, request.tag).familiar} if request.repository else {}
    around.publish(container, "commit", comment=request.message, imageID=image_id, **named)
    return image_id


def image_config(own: ContainerConfig, request: CommitRequest) -> ImageConfig:
    """The image's configuration. Raises InvalidArgument for a bad change."""
    base = ImageConfig(**{field: getattr(own, field) for field in _FIELDS})
    if request.config is not None:
        merged = merge(request.config, base)
        base = ImageConfig(**{field: getattr(merged, field) for field in _FIELDS})
    # What belongs to one container alone.
    bare = replace(
        base,
        hostname="",
        domainname="",
        image="",
        tty=False,
        open_stdin=False,
        stdin_once=False,
        attach_stdin=False,
        attach_stdout=False,
        attach_stderr=False,
        mac_address="",
    )
    return apply_changes(bare, request.changes)
