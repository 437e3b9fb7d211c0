"""A daemon that starts knows what the one before was told."""

from __future__ import annotations

from pathlib import Path

import pytest

from enxame.engine.networks import table_files
from enxame.engine.networks.table_files import TableFiles
from enxame.engine.networks.tables import NetworkTables
from enxame.model.dispatch import NetworkEndpoint, NetworkService, NetworkTable


def table(*endpoints: str, complete: bool = False, gone: tuple[str, ...] = ()) -> NetworkTable:
    return NetworkTable(
        network_id="app",
        complete=complete,
        endpoints=[NetworkEndpoint(id=name, names=[name]) for name in endpoints],
        removed_endpoints=list(gone),
        services=[NetworkService(id="s", name="web")] if complete else [],
    )


def files(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def told(directory: Path, *tables: NetworkTable) -> NetworkTables:
    made = NetworkTables(TableFiles(directory))
    for item in tables:
        await made.set([item], complete=False)
    return made


def known(directory: Path) -> set[str]:
    tables = NetworkTables(TableFiles(directory))
    tables.load()
    found = tables.get("app")
    return set(found.endpoints) if found is not None else set()


async def test_every_message_is_known_at_once(tmp_path: Path) -> None:
    tables = await told(tmp_path, table("a", complete=True))
    assert known(tmp_path) == {"a"}
    await tables.set([table("b"), table(gone=("a",))], complete=False)
    assert known(tmp_path) == {"b"}
    await tables.set([table("c", complete=True)], complete=False)
    assert known(tmp_path) == {"c"}
    await tables.drop("app")
    assert known(tmp_path) == set()
    assert files(tmp_path) == []


async def test_a_difference_after_a_restart_begins_with_the_whole_table(tmp_path: Path) -> None:
    await told(tmp_path, table("a", complete=True), table("b"))
    again = NetworkTables(TableFiles(tmp_path))
    again.load()
    await again.set([table("c")], complete=False)
    assert known(tmp_path) == {"a", "b", "c"}


async def test_a_file_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "_ROOM", 1000)
    tables = await told(tmp_path, table("a", complete=True))
    for _ in range(200):
        await tables.set([table("b"), table(gone=("b",))], complete=False)
    (file,) = files(tmp_path)
    assert file.stat().st_size < 4000
    assert known(tmp_path) == {"a"}


async def test_a_message_that_was_cut_off_is_not_known_and_the_others_are(tmp_path: Path) -> None:
    await told(tmp_path, table("a", complete=True), table("b"))
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes()[:-10])
    assert known(tmp_path) == {"a"}


async def test_nonsense_is_reported_and_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "app.json").write_text("{]\n")
    assert known(tmp_path) == set()
    assert "cannot be used" in caplog.text
    assert files(tmp_path) == []
