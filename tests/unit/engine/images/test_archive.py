import hashlib
import json

import pytest

from enxame.engine.images.archive import ARCHITECTURE, images_of
from enxame.engine.images.worker_process import Staged, StagedFile
from enxame.errors import InvalidArgument


class Archive:
    """A staged archive in the making."""

    def __init__(self, root):
        self.root, self.files, self.links = root, {}, {}

    def add(self, name, content):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        path = self.root / str(len(self.files))
        path.write_bytes(data)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.files[name] = StagedFile(str(path), digest, len(data))
        return digest

    def blob(self, content):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.add(f"blobs/sha256/{hashlib.sha256(data).hexdigest()}", data)

    def images(self):
        return images_of(Staged(self.files, self.links))


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path)


def test_docker_archives_share_layers_by_links(archive):
    archive.add("config.json", b"{}")
    archive.add("a/layer.tar", b"layer")
    archive.links["b/layer.tar"] = "a/layer.tar"
    manifest = [{"Config": "config.json", "RepoTags": ["web:1", "web:2"], "Layers": ["a/layer.tar", "b/layer.tar"]}]
    archive.add("manifest.json", manifest)
    (image,) = archive.images()
    assert [name.familiar for name in image.names] == ["web:1", "web:2"]
    assert image.layers[0] == image.layers[1]


def test_docker_archives_may_have_no_names(archive):
    archive.add("c", b"{}")
    archive.add("manifest.json", [{"Config": "c", "RepoTags": None, "Layers": None}])
    (image,) = archive.images()
    assert (image.names, image.layers) == ([], [])


def layout(archive, annotations, platform=None):
    config, layer = archive.blob({"os": "linux"}), archive.blob(b"layer")
    manifest = archive.blob({"config": {"digest": config}, "layers": [{"digest": layer}]})
    entry = {"digest": manifest, "annotations": annotations}
    if platform:
        index = {"manifests": [{"digest": manifest, "platform": platform}]}
        entry = {"digest": archive.blob(index), "mediaType": "application/vnd.oci.image.index.v1+json"}
    archive.add("index.json", {"manifests": [entry]})
    return config


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        ({"io.containerd.image.name": "docker.io/library/web:1"}, ["web:1"]),
        ({"org.opencontainers.image.ref.name": "r.io/web:1"}, ["r.io/web:1"]),
        ({"org.opencontainers.image.ref.name": "latest"}, []),
        ({}, []),
    ],
)
def test_oci_layouts_are_named_by_annotations(archive, annotations, names):
    config = layout(archive, annotations)
    (image,) = archive.images()
    assert (image.config.digest, [name.familiar for name in image.names]) == (config, names)


def test_of_several_platforms_ours_is_taken(archive):
    layout(archive, {}, {"os": "linux", "architecture": ARCHITECTURE})
    assert len(archive.images()) == 1


def test_an_archive_for_other_platforms_is_refused(archive):
    layout(archive, {}, {"os": "linux", "architecture": "none"})
    with pytest.raises(InvalidArgument, match="holds no image for linux/"):
        archive.images()


def test_damaged_archives_say_what_is_wrong(archive):
    with pytest.raises(InvalidArgument, match=r"neither manifest\.json nor index\.json"):
        archive.images()
    archive.add("manifest.json", b"[{]")
    with pytest.raises(InvalidArgument, match="invalid archive"):
        archive.images()
    archive.add("manifest.json", [{"Config": "../../etc/passwd", "Layers": []}])
    with pytest.raises(InvalidArgument, match=r"'../../etc/passwd' is missing"):
        archive.images()


def test_links_that_lead_in_circles_lead_nowhere(archive):
    archive.links.update({"manifest.json": "x", "x": "manifest.json"})
    with pytest.raises(InvalidArgument, match="neither"):
        archive.images()


def test_a_blob_that_is_not_its_digest_is_refused(archive):
    archive.add("blobs/sha256/" + "0" * 64, b"{}")
    archive.add("index.json", {"manifests": [{"digest": "sha256:" + "0" * 64}]})
    with pytest.raises(InvalidArgument, match="is damaged"):
        archive.images()
