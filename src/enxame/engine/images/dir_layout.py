"""An image laid out as skopeo's ``dir:`` wants it: a manifest, and links to the blobs that are kept anyway."""

from __future__ import annotations

import hashlib
from pathlib import Path

from enxame.engine.images.blob_kinds import ZSTD, compression, docker_manifest, oci_manifest
from enxame.engine.images.index import ImageRecord
from enxame.engine.images.layers import LayerStore

__all__ = ["lay_out"]


def lay_out(record: ImageRecord, layers: LayerStore, directory: Path) -> tuple[str, int]:
    """Fill ``directory``. Returns the manifest's digest and size in bytes. Blocks; the caller leases the image."""
    config = layers.blob_path(record.image.id)
    pairs = [(layer.blob, layer.blob_size) for layer in record.layers]
    kinds = [compression(layers.blob_path(digest)) for digest, _ in pairs]
    head = (record.image.id, config.stat().st_size)
    if ZSTD in kinds:  # Docker's manifest has no word for it
        manifest = oci_manifest(head, [(digest, size, kind) for (digest, size), kind in zip(pairs, kinds, strict=True)])
    else:
        manifest = docker_manifest(head, pairs)
    (directory / "version").write_text("Directory Transport Version: 1.1\n")
    (directory / "manifest.json").write_bytes(manifest)
    for digest in {record.image.id, *(digest for digest, _ in pairs)}:
        (directory / digest.removeprefix("sha256:")).symlink_to(layers.blob_path(digest).resolve())
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}", len(manifest)
