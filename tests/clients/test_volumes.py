"""Volumes through the stock docker command: filled at first use, parts of them, options of the local driver, prune."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from enxame.testing.daemons import Daemon
from enxame.testing.engine_client import ApiError, EngineClient
from tests.clients.command import IMAGE, Command
from tests.conftest import remove_containers


@pytest.fixture(autouse=True)
def tidy(daemon: Daemon) -> Iterator[None]:
    yield
    remove_containers(daemon)
    for volume in daemon.api.get("/volumes")["Volumes"] or []:
        daemon.api.delete(f"/volumes/{volume['Name']}")


def test_a_new_volume_has_the_images_files_as_soon_as_the_container_is_made(docker: Command, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine\n")
    docker("create", "--name", "box", "-v", "pages:/www", IMAGE)
    docker("cp", str(tmp_path / "mine"), "box:/www/mine")
    listed = docker("run", "--rm", "-v", "pages:/x", IMAGE, "ls", "/x").split()
    assert listed == ["cgi-bin", "mine"]


def test_a_volume_is_not_filled_when_the_client_says_so_or_something_is_in_it(docker: Command) -> None:
    assert docker("run", "--rm", "-v", "empty:/www:nocopy", IMAGE, "ls", "/www") == ""
    docker("run", "--rm", "-v", "full:/x", IMAGE, "touch", "/x/there")
    assert docker("run", "--rm", "-v", "full:/www", IMAGE, "ls", "/www") == "there"


def test_options_of_the_local_driver_make_mounts(docker: Command, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "file").write_text("kept\n")
    memory = ("--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=1m,uid=1000")
    docker("volume", "create", *memory, "memory")
    shown = docker("run", "--rm", "-v", "memory:/x", IMAGE, "sh", "-c", "df -P /x | tail -n 1; stat -c %u /x")
    assert shown.split()[:2] == ["tmpfs", "1024"]
    assert shown.split()[-1] == "1000"
    bind = ("--opt", "type=none", "--opt", f"device={given}")
    docker("volume", "create", *bind, "--opt", "o=bind,ro", "fixed")
    result = docker.result("run", "--rm", "-v", "fixed:/x", IMAGE, "sh", "-c", "cat /x/file; echo new > /x/file")
    assert (result.code, result.out) == (1, "kept\n")
    assert "Read-only file system" in result.err
    docker("volume", "create", *bind, "--opt", "o=bind", "open")
    docker("run", "--rm", "-v", "open:/www", IMAGE, "touch", "/www/new")
    # Not filled: the directory was not empty.
    assert sorted(path.name for path in given.iterdir()) == ["file", "new"]
    docker("volume", "rm", "open", "fixed")
    assert (given / "file").exists()


def test_options_that_describe_no_mount_are_refused(docker: Command) -> None:
    assert 'invalid option: "foo"' in docker.refused("volume", "create", "--opt", "foo=bar", "vol")
    assert 'missing required option: "device"' in docker.refused("volume", "create", "--opt", "type=nfs", "vol")
    docker("volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", "device=/nonexistent", "nowhere")
    message = docker.refused("run", "--rm", "-v", "nowhere:/x", IMAGE, "true")
    assert "failed to mount local volume: mount /nonexistent:" in message
    assert "no such file or directory" in message


def new_box(daemon: Daemon, source: str, subpath: str) -> str:
    """A container on a part of a volume; 20.10's command has no word for it."""
    mount = {"Type": "volume", "Source": source, "Target": "/x", "VolumeOptions": {"Subpath": subpath}}
    body = {"Image": IMAGE, "Cmd": ["ls", "/x"], "HostConfig": {"Mounts": [mount]}}
    return str(daemon.api.post("/containers/create", body)["Id"])


def test_a_part_of_a_volume_is_mounted_and_nothing_leads_out_of_it(docker: Command, daemon: Daemon) -> None:
    docker("run", "--rm", "-v", "whole:/x", IMAGE, "sh", "-c", "mkdir -p /x/a/b; touch /x/a/b/f; ln -s / /x/out")
    inside = new_box(daemon, "whole", "a/b")
    assert docker("start", "-a", inside) == "f"
    assert docker("cp", f"{inside}:/x/f", "-") is not None
    out = new_box(daemon, "whole", "out")
    assert "path concatenation escapes the base directory" in docker.refused("start", out)
    missing = new_box(daemon, "whole", "none")
    assert "/_data/none: no such file or directory" in docker.refused("start", missing)
    held = Path(daemon.exec_root) / "subpaths"
    assert not any(held.iterdir())
    docker("rm", inside, out, missing)
    docker("volume", "rm", "whole")


@pytest.mark.parametrize("subpath", ["..", "/a", "a/../../b"])
def test_a_part_outside_the_volume_is_refused_at_once(daemon: Daemon, subpath: str) -> None:
    mount = {"Type": "volume", "Source": "v", "Target": "/x", "VolumeOptions": {"Subpath": subpath}}
    with pytest.raises(ApiError, match="subpath must be a relative path within the volume") as caught:
        daemon.api.post("/containers/create", {"Image": IMAGE, "HostConfig": {"Mounts": [mount]}})
    assert caught.value.status == 400


def test_prune_takes_named_volumes_only_when_told_or_from_an_older_client(docker: Command, daemon: Daemon) -> None:
    docker("volume", "create", "named")
    docker("volume", "create", "--label", "keep", "labelled")
    docker("create", "--name", "box", "-v", "/anonymous", IMAGE)
    docker("rm", "box")
    newer = EngineClient(str(daemon.socket), version="v1.42")
    try:
        assert len(newer.post("/volumes/prune")["VolumesDeleted"]) == 1
        assert docker("volume", "ls", "-q").split() == ["labelled", "named"]
        assert daemon.api.post("/volumes/prune", filters={"label!": {"keep": True}})["VolumesDeleted"] == ["named"]
        assert newer.post("/volumes/prune", filters={"all": {"true": True}})["VolumesDeleted"] == ["labelled"]
    finally:
        newer.close()
