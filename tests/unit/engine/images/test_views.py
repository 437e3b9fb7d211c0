from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from enxame.engine.images import views
from enxame.engine.images.index import ImageRecord, chain_ids, make_record
from enxame.engine.images.layers import Layer
from enxame.engine.images.reference import parse
from enxame.errors import InvalidArgument
from enxame.model.base import encode
from enxame.model.filters import Filters
from enxame.model.image import HistoryEntry, ImageConfig, ImageFile, ImageFileRootFS

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def record(number=1, *, created=NOW, labels=None, layers=1, history=()) -> ImageRecord:
    diff_ids = [f"sha256:{number:02x}{index:062x}" for index in range(layers)]
    file = ImageFile(
        os="linux",
        architecture="amd64",
        created=created,
        config=ImageConfig(labels=labels or {}),
        rootfs=ImageFileRootFS(diff_ids=diff_ids),
        history=list(history),
    )
    kept = [Layer(diff_id=one, blob=one, blob_size=1, size=10 * (at + 1)) for at, one in enumerate(diff_ids)]
    return make_record(f"sha256:{number:064x}", encode(file), kept)


def names(*texts):
    return [parse(text) for text in texts]


def matches(image, given, others=(), **filters):
    known = {f"i{number}": other for number, other in enumerate(others)}
    wanted = Filters({name: frozenset(values) for name, values in filters.items()})
    return views.matches(image, names(*given), wanted, lookup=known.__getitem__, now=NOW)


def test_filters_dangling_and_label():
    image = record(labels={"a": "b"})
    assert matches(image, ["x:1"], dangling=["false"])
    assert not matches(image, ["x:1"], dangling=["true"])
    assert matches(image, [], dangling=["true"])
    assert matches(image, [], label=["a=b"])
    assert not matches(image, [], label=["a=c"])


def test_filters_before_and_since_compare_the_times_of_creation():
    old, new = record(1, created=NOW - timedelta(days=1)), record(2)
    assert matches(old, [], [new], before=["i0"])
    assert not matches(new, [], [new], before=["i0"])
    assert matches(new, [], [old], since=["i0"])
    assert not matches(old, [], [old], since=["i0"])


def test_filter_until_keeps_what_is_older():
    image = record(created=NOW - timedelta(hours=2))
    assert matches(image, [], until=["1h"])
    assert not matches(image, [], until=["3h"])


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("web", True), ("web:1", True), ("w*", True), ("web:*", True), ("web:2", False), ("*/web", False), ("x", False)],
)
def test_filter_reference_matches_familiar_names(pattern, found):
    assert matches(record(), ["web:1"], reference=[pattern]) is found


def test_only_the_names_that_were_asked_for_are_shown():
    wanted = Filters({"reference": frozenset({"web", "db:2"})})
    shown = views.shown_names(names("other:1", "web:1", "web:2", "db:1", "db:2"), wanted)
    assert [name.familiar for name in shown] == ["web:1", "web:2", "db:2"]
    assert len(views.shown_names(names("other:1", "web:1"), Filters())) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bogus": "1"}, "invalid filter 'bogus'"),
        ({"until": "soon"}, 'failed to parse value as time or duration: "soon"'),
        ({"dangling": "perhaps"}, "invalid filter 'dangling="),
    ],
)
def test_filters_that_make_no_sense_are_refused_without_looking_at_images(given, message):
    filters = Filters({name: frozenset({value}) for name, value in given.items()})
    with pytest.raises(InvalidArgument, match=message):
        views.check_filters(filters, views.PRUNE_FILTERS, NOW)


def test_rows_tell_tags_and_digests_apart():
    digest = "sha256:" + "0" * 64
    row = views.summary(record(layers=2), names("web:1", f"web@{digest}"))
    assert (row.repo_tags, row.repo_digests) == (["web:1"], [f"web@{digest}"])
    assert (row.size, row.containers, row.created) == (30, -1, int(NOW.timestamp()))


def test_history_gives_sizes_to_the_steps_that_made_layers():
    steps = [
        HistoryEntry(created=NOW, created_by="ADD"),
        HistoryEntry(created=NOW, created_by="ENV", empty_layer=True),
        HistoryEntry(created=NOW, created_by="RUN"),
    ]
    rows = views.history(record(layers=2, history=steps), names("web:1"))
    assert [(row.created_by, row.size) for row in rows] == [("RUN", 20), ("ENV", 0), ("ADD", 10)]
    assert rows[0].id == record().image.id
    assert (rows[0].tags, rows[1].id) == (["web:1"], "<missing>")


def test_inspection_shows_the_layers_topmost_first():
    shown = views.inspection(record(layers=3), names("web:1"), lambda diff_id: Path("/l") / diff_id[-2:] / "diff")
    assert shown.graph_driver.data["UpperDir"] == "/l/02/diff"
    assert shown.graph_driver.data["LowerDir"] == "/l/01/diff:/l/00/diff"
    assert shown.root_fs.layers == record(layers=3).image.layers


def prunable(image, given, **filters):
    wanted = Filters({name: frozenset(values) for name, values in filters.items()})
    return views.prunable(image, names(*given), wanted, NOW)


def test_prune_takes_unnamed_images_unless_told_otherwise():
    image = record(created=NOW - timedelta(hours=2), labels={"keep": "1"})
    assert prunable(image, [])
    assert not prunable(image, ["web:1"])
    assert prunable(image, ["web:1"], dangling=["false"])
    assert not prunable(image, [], **{"label!": ["keep"]})
    assert prunable(image, [], until=["1h30m"])
    assert not prunable(image, [], until=["3h"])
    assert not prunable(image, [], until=["2026-05-01T00:00:00Z"])
    with pytest.raises(InvalidArgument, match="failed to parse value as time or duration"):
        prunable(image, [], until=["yesterday"])


def test_chain_ids_are_dockers():
    first = "sha256:" + "a" * 64
    second = "sha256:" + "b" * 64
    # sha256 of "<chain below> <diff-id>", computed apart.
    above = "sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c"
    assert chain_ids([first, second]) == [first, above]


def test_a_configuration_with_other_layers_is_refused():
    one = record(layers=1).layers
    with pytest.raises(InvalidArgument, match="layers length mismatch: expected 1, got 2"):
        make_record("sha256:" + "0" * 64, encode(record(layers=2).file), one)


def test_images_of_other_systems_are_refused():
    with pytest.raises(InvalidArgument, match='operating system "windows"'):
        make_record("sha256:" + "0" * 64, b'{"os":"windows"}', [])
