"""Copying, exporting, committing, pausing and updating with the stock docker command and with ours."""

import os
import tarfile
from pathlib import Path

import pytest

from tests.clients.command import IMAGE, Command


@pytest.fixture
def box(tool: Command):
    """A container that runs, with a file."""
    made = tool(
        "run", "-d", "--entrypoint", "sh", IMAGE, "-c", "mkdir /d; echo in > /d/file; ln -s /d /l; exec sleep 99"
    )
    yield made
    tool.result("rm", "-f", made)


def test_files_and_directories_are_copied_both_ways(tool: Command, box: str, tmp_path: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/a").write_text("a\n")
    (tmp_path / "tree/link").symlink_to("sub/a")
    (tmp_path / "one").write_text("one\n")
    tool("cp", f"{tmp_path}/one", f"{box}:/d/")
    tool("cp", f"{tmp_path}/one", f"{box}:/d/renamed")
    tool("cp", f"{tmp_path}/tree", f"{box}:/new")
    tool("cp", f"{tmp_path}/tree/.", f"{box}:/d")
    tool("cp", f"{tmp_path}/one", f"{box}:/l")
    script = "cat /d/one /d/renamed /new/sub/a /new/link /d/sub/a /d/file"
    assert tool("exec", box, "sh", "-c", script) == "one\none\na\na\na\nin"
    out = tmp_path / "out"
    out.mkdir()
    tool("cp", f"{box}:/d/file", f"{out}/")
    tool("cp", f"{box}:/d/file", f"{out}/other")
    tool("cp", f"{box}:/new", f"{out}/")
    tool("cp", f"{box}:/new", f"{out}/fresh")
    tool("cp", f"{box}:/new/.", f"{out}/contents")
    tool("cp", "-L", f"{box}:/l", f"{out}/followed")
    for name in ("file", "other", "followed/file"):
        assert (out / name).read_text() == "in\n"
    for name in ("new", "fresh", "contents"):
        assert (out / name / "sub/a").read_text() == "a\n"
        assert os.readlink(out / name / "link") == "sub/a"


def test_what_cannot_be_copied_is_refused(tool: Command, box: str, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("x")
    for words in (
        ("cp", f"{box}:/nosuch", str(tmp_path)),
        ("cp", f"{box}:/d", f"{tmp_path}/file"),
        ("cp", f"{tmp_path}/dir", f"{box}:/d/file"),
        ("cp", f"{tmp_path}/nosuch", f"{box}:/d"),
        ("cp", f"{tmp_path}/file", f"{box}:/nosuch/deep"),
        ("cp", f"{tmp_path}/file", "nosuch:/d"),
    ):
        assert tool.refused(*words)


def test_an_export_is_a_tar_and_a_commit_an_image(tool: Command, box: str, tmp_path: Path) -> None:
    tool("export", "-o", f"{tmp_path}/all.tar", box)
    with tarfile.open(tmp_path / "all.tar") as tar:
        assert tar.extractfile("d/file").read() == b"in\n"
    image = tool("commit", "-m", "why", "-c", 'ENTRYPOINT ["cat"]', "-c", "CMD /d/file", box, "mine:1")
    assert image.startswith("sha256:")
    assert tool("run", "--rm", "--entrypoint", "cat", "mine:1", "/d/file") == "in"
    assert "A /d/file" in tool("diff", box).splitlines()
    tool("rmi", "mine:1")


def test_pause_update_rename_and_prune(tool: Command, box: str) -> None:
    tool("pause", box)
    assert "(Paused)" in tool("ps", "--format", "{{.Status}}")
    tool("unpause", box)
    tool("update", "--memory", "64m", "--memory-swap", "128m", "--restart", "always", box)
    shown = tool("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}", box)
    assert shown == "67108864 always"
    tool("update", "--restart", "no", box)
    tool("rename", box, "renamed")
    tool("kill", "renamed")
    assert tool("container", "prune", "-f").count(box) == 1
