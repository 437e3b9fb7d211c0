"""Which images this machine has and how they are called: tables in memory, small files behind them.

    records/<hex>.json     one an image: its layers, when it was named last
    repositories.json      names and digests to image ids

The image's configuration is the blob whose digest is its id. A file that cannot be read is set aside and reported; what
it said is lost, the rest works on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import msgspec

from enxame.engine.durable_file import replace_file
from enxame.engine.images.layers import Layer
from enxame.engine.images.reference import Reference, parse
from enxame.errors import InvalidArgument, NotFound
from enxame.model.base import ZERO_TIME, decode
from enxame.model.image import Image, ImageFile

__all__ = ["ImageIndex", "ImageRecord", "chain_ids", "check_layer_count", "make_record"]

_log = logging.getLogger(__name__)
_HEX = frozenset("0123456789abcdef")
#: What fits into the page of options of one overlay mount; Docker stacks 128.
_MAX_LAYERS = 160


class _StoredRecord(msgspec.Struct, frozen=True, kw_only=True):
    layers: list[Layer]
    tagged_at: datetime = ZERO_TIME


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An image and what this machine knows of it."""

    image: Image
    file: ImageFile
    layers: list[Layer]
    tagged_at: datetime = ZERO_TIME


class ImageIndex:
    """The tables. Changes are on the disk when the call returns; calls block for that (some milliseconds)."""

    def __init__(self, root: Path, blobs: Path) -> None:
        self._records_path = root / "records"
        self._names_path = root / "repositories.json"
        self._blobs = blobs
        self.records: dict[str, ImageRecord] = {}
        #: Full name (with tag or digest) to image id.
        self.names: dict[str, str] = {}
        self._references: dict[str, list[Reference]] = {}
        #: Whether something could not be read: then nothing that is unknown may be collected.
        self.damaged = False

    def load(self) -> None:
        """Read the files. Blocks."""
        self._records_path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.records.clear()
        for path in sorted(self._records_path.glob("*.json")):
            image_id = f"sha256:{path.stem}"
            try:
                stored = msgspec.json.decode(path.read_bytes(), type=_StoredRecord)
                config = (self._blobs / path.stem).read_bytes()
                self.records[image_id] = make_record(image_id, config, stored.layers, stored.tagged_at)
            except (OSError, msgspec.DecodeError, InvalidArgument) as error:
                self._set_aside(path, error)
        self._set_names({})
        try:
            names = msgspec.json.decode(self._names_path.read_bytes(), type=dict[str, str])
            self._set_names({name: image_id for name, image_id in names.items() if image_id in self.records})
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError, InvalidArgument) as error:
            self._set_names({})
            self._set_aside(self._names_path, error)

    def _set_aside(self, path: Path, error: Exception) -> None:
        self.damaged = True
        _log.error("image index: %s cannot be read and is set aside as %s.damaged: %s", path, path.name, error)
        os.replace(path, path.with_name(path.name + ".damaged"))

    def put(self, record: ImageRecord) -> None:
        """Add an image whose configuration blob is in place."""
        stored = _StoredRecord(layers=record.layers, tagged_at=record.tagged_at)
        hex_id = record.image.id.removeprefix("sha256:")
        replace_file(self._records_path / f"{hex_id}.json", msgspec.json.encode(stored))
        self.records[record.image.id] = record

    def forget(self, image_id: str) -> None:
        """Remove an image and all its names."""
        self.rename(dict.fromkeys(map(str, self.references_of(image_id)), ""))
        (self._records_path / f"{image_id.removeprefix('sha256:')}.json").unlink(missing_ok=True)
        self.records.pop(image_id, None)

    def rename(self, changes: dict[str, str]) -> None:
        """Give names to images; an empty id takes the name away. All at once."""
        if not changes:
            return
        names = {name: image_id for name, image_id in (self.names | changes).items() if image_id}
        if names != self.names:
            replace_file(self._names_path, msgspec.json.encode(names))
            self._set_names(names)

    def _set_names(self, names: dict[str, str]) -> None:
        self.names = names
        self._references = {}
        for name in sorted(names):
            self._references.setdefault(names[name], []).append(parse(name))

    def references_of(self, image_id: str) -> list[Reference]:
        """All names of an image, in order."""
        return self._references.get(image_id, [])

    def lookup(self, ref: str) -> ImageRecord:
        """The image of a name, an id, or a unique prefix of an id; in Docker's order.

        Raises:
            NotFound: ``No such image: X``.
            InvalidArgument: the text is no reference at all.
        """
        hex_id = ref.removeprefix("sha256:")
        if len(hex_id) == 64 and set(hex_id) <= _HEX:
            record = self.records.get(f"sha256:{hex_id}")
            if record is None:
                raise NotFound(f"No such image: sha256:{hex_id}")
            return record
        reference = None
        try:
            reference = parse(ref).tagged()
        except InvalidArgument:
            if not ref.startswith("sha256:"):
                raise
        if reference is not None:
            name = str(reference.canonical(reference.digest) if reference.digest else reference)
            image_id = self.names.get(name)
            if image_id is None and reference.digest in self.records:
                image_id = reference.digest
            if image_id is not None:
                return self.records[image_id]
        if hex_id and set(hex_id) <= _HEX:
            found = [image_id for image_id in self.records if image_id.startswith(f"sha256:{hex_id}")]
            if len(found) == 1:
                return self.records[found[0]]
        raise NotFound(f"No such image: {reference.familiar if reference else ref}")

    def layers_in_use(self) -> set[str]:
        """Diff-ids of all images' layers."""
        return {layer.diff_id for record in self.records.values() for layer in record.layers}


def make_record(image_id: str, config: bytes, layers: Iterable[Layer], tagged_at: datetime = ZERO_TIME) -> ImageRecord:
    """Read an image's configuration.

    Raises:
        InvalidArgument: it is no image configuration, or names other layers.
    """
    file = decode(config, ImageFile)
    kept = list(layers)
    if file.os not in {"", "linux"}:
        raise InvalidArgument(f'image operating system "{file.os}" cannot be used on this platform')
    check_layer_count(len(kept), file)
    if [layer.diff_id for layer in kept] != file.rootfs.diff_ids:
        raise InvalidArgument("invalid image: its configuration names other layers")
    image = Image(
        id=image_id,
        config=file.config,
        layers=file.rootfs.diff_ids,
        architecture=file.architecture,
        os=file.os or "linux",
        variant=file.variant,
        created=file.created,
        size=sum(layer.size for layer in kept),
    )
    return ImageRecord(image=image, file=file, layers=kept, tagged_at=tagged_at)


def check_layer_count(count: int, file: ImageFile) -> list[str]:
    """The diff-ids of a configuration, when a manifest with ``count`` layers fits it.

    Raises:
        InvalidArgument: it does not, or the layers are more than one mount takes.
    """
    if count != len(file.rootfs.diff_ids):
        raise InvalidArgument(
            f"invalid manifest, layers length mismatch: expected {count}, got {len(file.rootfs.diff_ids)}"
        )
    if count > _MAX_LAYERS:
        raise InvalidArgument(f"max depth exceeded: the image has {count} layers, at most {_MAX_LAYERS} are stacked")
    return file.rootfs.diff_ids


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """The names that Docker gives to layers on top of each other, lowest first."""
    import hashlib

    chain: list[str] = []
    for diff_id in diff_ids:
        if chain:
            diff_id = f"sha256:{hashlib.sha256(f'{chain[-1]} {diff_id}'.encode()).hexdigest()}"  # noqa: PLW2901
        chain.append(diff_id)
    return chain
