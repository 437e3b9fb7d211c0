import json
import tarfile

import pytest

from enxame.testing import sample_image

pytestmark = pytest.mark.skipif(not sample_image.BUSYBOX.exists(), reason="needs busybox-static")


def test_the_same_busybox_gives_the_same_image(tmp_path):
    first = sample_image.build(tmp_path / "a.tar")
    assert sample_image.build(tmp_path / "b.tar", tag="other:1") == first


def test_the_archive_says_what_every_docker_load_reads(tmp_path):
    image_id = sample_image.build(tmp_path / "a.tar", tag="x/y:z")
    with tarfile.open(tmp_path / "a.tar") as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json"))
        config = json.load(archive.extractfile(manifest["Config"]))
        with tarfile.open(fileobj=archive.extractfile(manifest["Layers"][0])) as layer:
            names = set(layer.getnames())
    assert manifest["RepoTags"] == ["x/y:z"]
    assert manifest["Config"] == f"{image_id.removeprefix('sha256:')}.json"
    assert config["config"]["ExposedPorts"] == {"80/tcp": {}}
    assert {"bin/busybox", "bin/sh", "bin/wget", "bin/ip", "bin/serve", "tmp"} <= names
    assert (tmp_path / "a.tar").stat().st_size < 2_300_000


def test_the_command_explains_itself_and_its_failures(tmp_path, capsys):
    assert sample_image.main([]) == 2
    assert "usage:" in capsys.readouterr().err
    assert sample_image.main([str(tmp_path / "no" / "such" / "dir.tar")]) == 1
    assert "cannot build the sample image" in capsys.readouterr().err
    assert sample_image.main([str(tmp_path / "x.tar"), "t:1"]) == 0
