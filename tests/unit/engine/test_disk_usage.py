"""Sizes of directories: what counts, and that looking is shared."""

import asyncio
import os
from pathlib import Path

import pytest

from enxame.engine import disk_usage
from enxame.engine.disk_usage import WrittenSizes, written_below


def test_files_count_hard_links_once_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"x" * 1000)
    os.link(tmp_path / "sub" / "file", tmp_path / "again")
    (tmp_path / "link").symlink_to("/")
    assert written_below(str(tmp_path)) == 1001


def test_a_missing_directory_has_nothing(tmp_path: Path) -> None:
    assert written_below(str(tmp_path / "none")) == 0
    assert written_below("") == 0


async def test_those_who_ask_at_once_share_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(disk_usage, "written_below", lambda directory: looked.append(directory) or 7)
    sizes = WrittenSizes()
    answers = await asyncio.gather(*(sizes.of({"c": "/x"}) for _ in range(5)))
    assert answers == [{"c": 7}] * 5
    assert looked == ["/x"]
    await sizes.of({"c": "/x"})
    assert looked == ["/x", "/x"]
