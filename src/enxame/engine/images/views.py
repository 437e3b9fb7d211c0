"""Images as the API shows them: rows, inspection, history, filters. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from enxame.engine.images.index import ImageRecord, chain_ids
from enxame.engine.images.reference import Reference
from enxame.engine.networks.moments import parse_moment
from enxame.errors import InvalidArgument
from enxame.model.base import ZERO_TIME
from enxame.model.filters import Filters
from enxame.model.image import (
    GraphDriverData,
    ImageHistoryItem,
    ImageInspect,
    ImageMetadata,
    ImageSummary,
    RootFS,
)

__all__ = [
    "LIST_FILTERS",
    "PRUNE_FILTERS",
    "check_filters",
    "deleted_layers",
    "history",
    "inspection",
    "matches",
    "prunable",
    "shown_names",
    "summary",
]

LIST_FILTERS = frozenset({"dangling", "label", "before", "since", "until", "reference"})
PRUNE_FILTERS = frozenset({"dangling", "label", "label!", "until"})


def summary(record: ImageRecord, names: Sequence[Reference]) -> ImageSummary:
    """One row of the list."""
    image = record.image
    return ImageSummary(
        id=image.id,
        repo_tags=_tags(names),
        repo_digests=_digests(names),
        created=_seconds(record),
        size=image.size,
        virtual_size=image.size,
        labels=image.config.labels or None,
    )


def inspection(record: ImageRecord, names: Sequence[Reference], directory: Callable[[str], Path]) -> ImageInspect:
    """The whole image. ``directory`` tells where a layer is unpacked."""
    image, file = record.image, record.file
    layers = [str(directory(layer.diff_id)) for layer in reversed(record.layers)]
    data: dict[str, str] = {}
    if layers:
        top = Path(layers[0]).parent
        data = {"MergedDir": str(top / "merged"), "UpperDir": layers[0], "WorkDir": str(top / "work")}
        if layers[1:]:
            data["LowerDir"] = ":".join(layers[1:])
    return ImageInspect(
        id=image.id,
        repo_tags=_tags(names),
        repo_digests=_digests(names),
        comment=file.comment or (file.history[-1].comment if file.history else ""),
        created=image.created,
        container=file.container,
        docker_version=file.docker_version,
        author=file.author,
        config=image.config,
        architecture=image.architecture,
        variant=image.variant,
        os=image.os,
        os_version=file.os_version,
        size=image.size,
        virtual_size=image.size,
        graph_driver=GraphDriverData(data=data),
        root_fs=RootFS(layers=image.layers),
        metadata=ImageMetadata(last_tag_time=record.tagged_at),
    )


def history(record: ImageRecord, names: Sequence[Reference]) -> list[ImageHistoryItem]:
    """How the image came to be, newest step first."""
    sizes = iter(layer.size for layer in record.layers)
    rows = [
        ImageHistoryItem(
            created=int(step.created.timestamp()) if step.created != ZERO_TIME else 0,
            created_by=step.created_by,
            comment=step.comment,
            size=0 if step.empty_layer else next(sizes, 0),
        )
        for step in record.file.history
    ]
    if not rows:
        rows = [ImageHistoryItem(created=_seconds(record), size=size) for size in sizes]
    rows.reverse()
    if rows:
        newest = rows[0]
        rows[0] = ImageHistoryItem(
            id=record.image.id,
            created=newest.created,
            created_by=newest.created_by,
            tags=_tags(names) or None,
            size=newest.size,
            comment=newest.comment,
        )
    return rows


def matches(
    record: ImageRecord,
    names: Sequence[Reference],
    filters: Filters,
    *,
    lookup: Callable[[str], ImageRecord],
    now: datetime,
) -> bool:
    """Whether an image is in the filtered list. ``before`` and ``since`` name images, by creation time.

    Raises:
        NotFound: ``before`` or ``since`` names no image.
    """
    if "dangling" in filters and filters.flag("dangling") == any(name.tag for name in names):
        return False
    if not filters.labels_match(record.image.config.labels):
        return False
    if any(record.image.created >= lookup(other).image.created for other in filters.get("before")):
        return False
    if any(record.image.created <= lookup(other).image.created for other in filters.get("since")):
        return False
    if any(record.image.created > parse_moment(text, now) for text in filters.get("until")):
        return False
    return "reference" not in filters or bool(shown_names(names, filters))


def shown_names(names: Sequence[Reference], filters: Filters) -> Sequence[Reference]:
    """Those of an image's names that were asked for; all, if none were."""
    if "reference" not in filters:
        return names
    return [name for name in names if any(_familiar_match(pattern, name) for pattern in filters.get("reference"))]


def check_filters(filters: Filters, known: frozenset[str], now: datetime) -> None:
    """Raise InvalidArgument for a filter that there is not, or a value that is none."""
    for name in filters.values:
        if name not in known:
            raise InvalidArgument(f"invalid filter '{name}'")
    if "dangling" in filters:
        filters.flag("dangling")
    for text in filters.get("until"):
        parse_moment(text, now)


def _familiar_match(pattern: str, name: Reference) -> bool:
    """Docker's path.Match over the familiar name, with and without the tag; ``*`` does not cross a slash."""
    return any(_path_match(pattern, text) for text in (name.familiar, name.familiar_name))


def _path_match(pattern: str, text: str) -> bool:
    wanted, given = pattern.split("/"), text.split("/")
    return len(wanted) == len(given) and all(
        fnmatch.fnmatchcase(part, mask) for mask, part in zip(wanted, given, strict=True)
    )


def _tags(names: Iterable[Reference]) -> list[str]:
    return [name.familiar for name in names if name.tag]


def _digests(names: Iterable[Reference]) -> list[str]:
    return [name.familiar for name in names if name.digest]


def _seconds(record: ImageRecord) -> int:
    created = record.image.created
    return int(created.timestamp()) if created != ZERO_TIME else 0


def deleted_layers(record: ImageRecord, gone: Iterable[str]) -> list[str]:
    """The chain ids, topmost first, of the image's layers that went with it."""
    missing = set(gone)
    pairs = zip(chain_ids(record.image.layers), record.image.layers, strict=True)
    return [chain for chain, diff_id in reversed(list(pairs)) if diff_id in missing]


def prunable(record: ImageRecord, names: Sequence[Reference], filters: Filters, now: datetime) -> bool:
    """Whether prune may take an image that no container uses."""
    if filters.flag("dangling", default=True) and any(name.tag for name in names):
        return False
    labels = record.image.config.labels
    if not filters.labels_match(labels):
        return False
    if "label!" in filters and filters.labels_match(labels, "label!"):
        return False
    return all(record.image.created <= parse_moment(text, now) for text in filters.get("until"))
