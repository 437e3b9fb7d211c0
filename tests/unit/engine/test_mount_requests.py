"""Binds, mounts, tmpfs and image volumes."""

import itertools

import pytest

from enxame.engine.mount_requests import parse_mounts
from enxame.errors import InvalidArgument
from enxame.model.container import BindOptions, ContainerConfig, Empty, HostConfig, Mount, VolumeOptions


def parse(host=None, config=None):
    numbers = itertools.count()
    return parse_mounts(
        config or ContainerConfig(), host or HostConfig(), new_volume_name=lambda: f"made{next(numbers)}"
    )


def test_a_bind_of_a_path_and_of_a_volume():
    path, volume = parse(HostConfig(binds=["/host/./dir:/a:ro,rslave", "named:/b:nocopy"]))
    assert (path.type, path.source, path.read_only, path.propagation, path.create_source) == (
        "bind",
        "/host/dir",
        True,
        "rslave",
        True,
    )
    assert (volume.type, volume.name, volume.copy, volume.anonymous) == ("volume", "named", False, False)


def test_parents_come_before_children_and_image_volumes_yield():
    mounts = parse(
        HostConfig(binds=["/x:/a/b/c", "/y:/a"]), ContainerConfig(volumes={"/a": Empty(), "/cache": Empty()})
    )
    assert [(m.destination, m.type, m.anonymous) for m in mounts] == [
        ("/a", "bind", False),
        ("/cache", "volume", True),
        ("/a/b/c", "bind", False),
    ]


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (HostConfig(binds=["/a"[1:]]), "mount path must be absolute"),
        (HostConfig(binds=["/a:b"]), "invalid mount path: 'b' mount path must be absolute"),
        (HostConfig(binds=["/a:/"]), "destination can't be '/'"),
        (HostConfig(binds=["/a:/b:ro,rw"]), "invalid mode: ro,rw"),
        (HostConfig(binds=["bad name:/b"]), "includes invalid characters for a local volume name"),
        (HostConfig(binds=["/a:/b", "/c:/b"]), "Duplicate mount point: /b"),
        (HostConfig(mounts=[Mount(type="bind", target="/x")]), 'type "bind": field Source must not be empty'),
        (HostConfig(mounts=[Mount(type="bind", source="/", target="")]), "field Target must not be empty"),
        (HostConfig(mounts=[Mount(type="tmpfs", source="x", target="/x")]), "field Source must not be specified"),
        (HostConfig(mounts=[Mount(type="wish", target="/x")]), "mount type unknown"),
        (
            HostConfig(mounts=[Mount(type="volume", target="/x", volume_options=VolumeOptions(subpath="a"))]),
            "must not set Subpath when using anonymous volumes",
        ),
        (
            HostConfig(
                mounts=[Mount(type="volume", source="vo", target="/x", volume_options=VolumeOptions(subpath="../a"))]
            ),
            "subpath must be a relative path within the volume",
        ),
        (
            HostConfig(mounts=[Mount(type="volume", target="/x", read_only=True)]),
            "must not set ReadOnly mode when using anonymous volumes",
        ),
        (
            HostConfig(
                mounts=[Mount(type="bind", source="/", target="/x", bind_options=BindOptions(propagation="far"))]
            ),
            "invalid propagation mode: far",
        ),
        (HostConfig(tmpfs={"/x": "size=1m,foo=bar"}), 'invalid tmpfs option ["foo" "bar"]'),
        (HostConfig(tmpfs={"/x": "size"}), 'invalid tmpfs option ["size"]'),
        (
            HostConfig(mounts=[Mount(type="bind", source="/", target="/x", volume_options=VolumeOptions())]),
            "field VolumeOptions must not be specified",
        ),
        (
            HostConfig(mounts=[Mount(type="volume", target="/x", bind_options=BindOptions())]),
            "field BindOptions must not be specified",
        ),
    ],
)
def test_nonsense_is_refused_in_dockers_words(host, message):
    with pytest.raises(InvalidArgument) as caught:
        parse(host)
    assert message in caught.value.message
