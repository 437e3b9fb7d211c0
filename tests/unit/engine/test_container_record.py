"""What a crash in the middle of a deletion leaves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from enxame.engine.container_record import Definition, RecordStore
from enxame.model.container import ContainerConfig, HostConfig

KEPT, GONE = "a" * 64, "b" * 64


def test_what_an_interrupted_deletion_left_is_litter(tmp_path: Path) -> None:
    records = RecordStore(tmp_path / "containers")
    for container_id in (KEPT, GONE):
        records.define(
            Definition(
                id=container_id,
                name=container_id[:1],
                created=datetime.now(UTC),
                config=ContainerConfig(),
                host=HostConfig(),
                image_id="i",
                image="i",
            )
        )
        (records.directory(container_id) / "hosts").write_text("")
    (records.directory(GONE) / "config.json").unlink()
    (tmp_path / "containers" / "somebody's").mkdir()
    records.remove_litter()
    assert records.ids() == [KEPT]
    assert records.load(KEPT)[0].name == "a"
    assert (tmp_path / "containers" / "somebody's").exists()
