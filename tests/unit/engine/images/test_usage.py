"""Layers that images share count once."""

from enxame.engine.images.index import ImageRecord
from enxame.engine.images.layers import Layer
from enxame.engine.images.usage import layers_size, with_usage
from enxame.model.image import Image, ImageFile, ImageSummary


def _record(image_id: str, **sizes: int) -> ImageRecord:
    layers = [Layer(diff_id=name, blob=name, blob_size=1, size=size) for name, size in sizes.items()]
    return ImageRecord(image=Image(id=image_id, size=sum(sizes.values())), file=ImageFile(), layers=layers)


RECORDS = {"one": _record("one", base=100, a=10), "two": _record("two", base=100, b=5), "three": _record("three", c=1)}


def test_every_layer_is_counted_once() -> None:
    assert layers_size(RECORDS.values()) == 116


def test_images_tell_what_they_share_and_who_uses_them() -> None:
    rows = [ImageSummary(id=name, size=record.image.size) for name, record in RECORDS.items()]
    used = with_usage(rows, RECORDS, {"one": 2})
    assert [(row.shared_size, row.containers) for row in used] == [(100, 2), (100, 0), (0, 0)]
