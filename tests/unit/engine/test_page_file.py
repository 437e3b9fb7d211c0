from __future__ import annotations

from pathlib import Path

import pytest

from enxame.engine.page_file import PAGE, read_record, write_record


@pytest.mark.parametrize(
    "sizes", [(10, 5), (5, 10), (PAGE * 3, 5), (5, PAGE * 3), (PAGE * 3, PAGE * 2), (PAGE, PAGE - 1)]
)
def test_the_last_record_is_read_whatever_the_lengths(tmp_path: Path, sizes: tuple[int, int]) -> None:
    path = tmp_path / "record.json"
    for letter, size in zip((b"a", b"b"), sizes, strict=True):
        write_record(path, letter * size)
    assert read_record(path) == b"b" * sizes[1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]


def test_a_short_record_is_written_in_place_and_a_long_one_beside(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, b"a" * 10)
    first = path.stat().st_ino
    write_record(path, b"b" * (PAGE - 1))
    assert path.stat().st_ino == first
    with path.open("rb") as held:
        write_record(path, b"c" * PAGE)
        assert held.read() == b"b" * (PAGE - 1) + b"\n"
    assert read_record(path) == b"c" * PAGE


def test_only_its_owner_may_read_a_record(tmp_path: Path) -> None:
    write_record(tmp_path / "record.json", b"{}")
    assert (tmp_path / "record.json").stat().st_mode & 0o777 == 0o600


def test_a_record_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path / "record.json")
