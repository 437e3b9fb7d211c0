"""What images take on the disk: layers are shared, each is counted once. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from enxame.engine.images.index import ImageRecord
from enxame.model.image import ImageSummary

__all__ = ["layers_size", "with_usage"]


def layers_size(records: Iterable[ImageRecord]) -> int:
    """Bytes of all layers together."""
    return sum({layer.diff_id: layer.size for record in records for layer in record.layers}.values())


def with_usage(
    rows: Sequence[ImageSummary], records: Mapping[str, ImageRecord], containers: Mapping[str, int]
) -> list[ImageSummary]:
    """The rows with what they share with other images (bytes) and how many ``containers`` (by image id) use them."""
    holders = Counter(diff for record in records.values() for diff in {layer.diff_id for layer in record.layers})

    def shared(record: ImageRecord) -> int:
        return sum({layer.diff_id: layer.size for layer in record.layers if holders[layer.diff_id] > 1}.values())

    return [
        msgspec.structs.replace(row, shared_size=shared(records[row.id]), containers=containers.get(row.id, 0))
        for row in rows
        if row.id in records
    ]
