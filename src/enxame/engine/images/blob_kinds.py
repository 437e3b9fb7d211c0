"""Which compression a kept layer has, and the manifest that describes an image by its kept blobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

__all__ = ["GZIP", "PLAIN", "ZSTD", "compression", "docker_manifest", "oci_manifest"]

PLAIN: Final = ""
GZIP: Final = "gzip"
ZSTD: Final = "zstd"

_MAGIC: Final = {b"\x1f\x8b": GZIP, b"\x28\xb5\x2f\xfd": ZSTD, b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2"}
_OCI: Final = "application/vnd.oci.image"
_DOCKER: Final = "application/vnd.docker"


def compression(blob: Path) -> str:
    """How the blob is compressed, by its first bytes. Blocks."""
    with blob.open("rb") as file:
        head = file.read(6)
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), PLAIN)


def docker_manifest(config: tuple[str, int], layers: list[tuple[str, int]]) -> bytes:
    """Docker's manifest (schema 2) in Docker's own spelling, so that equal images have equal digests everywhere.
    Each pair is a digest and a size in bytes.
    """
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_DOCKER}.distribution.manifest.v2+json",
        "config": _descriptor(f"{_DOCKER}.container.image.v1+json", *config),
        "layers": [_descriptor(f"{_DOCKER}.image.rootfs.diff.tar.gzip", *layer) for layer in layers],
    }
    return json.dumps(manifest, indent=3).encode()


def oci_manifest(config: tuple[str, int], layers: list[tuple[str, int, str]]) -> bytes:
    """OCI's manifest. A layer is its digest, its size in bytes and its compression."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": _descriptor(f"{_OCI}.config.v1+json", *config),
        "layers": [
            _descriptor(f"{_OCI}.layer.v1.tar{'+' + kind if kind else ''}", digest, size)
            for digest, size, kind in layers
        ],
    }
    return json.dumps(manifest).encode()


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "size": size, "digest": digest}
