import pytest

from enxame.engine.volume_options import MountOptions, mount_options
from enxame.errors import InvalidArgument

BIND, REC = 0x1000, 0x4000


@pytest.mark.parametrize(
    ("options", "mount"),
    [
        ({}, None),
        ({"type": "", "o": "", "device": ""}, None),
        (
            {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,nosuid,uid=1000"},
            MountOptions("tmpfs", "tmpfs", 2, "size=1m,uid=1000"),
        ),
        ({"type": "none", "device": "/srv", "o": "bind"}, MountOptions("none", "/srv", BIND, "")),
        ({"type": "none", "device": "/srv", "o": "rbind,ro"}, MountOptions("none", "/srv", BIND | REC | 1, "")),
        ({"type": "ext4", "device": "/dev/x", "o": "ro,rw"}, MountOptions("ext4", "/dev/x", 0, "")),
    ],
)
def test_options_become_the_arguments_of_mount(options, mount):
    assert mount_options(options) == mount


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bogus": "1"}, 'invalid option: "bogus"'),
        ({"o": "ro"}, 'missing required option: "device"'),
        ({"device": "/x"}, 'missing required option: "type"'),
        ({"size": "1g"}, "quota size requested but no quota support"),
        ({"type": "none", "device": "/x", "o": "bind,shared"}, "propagation"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InvalidArgument) as caught:
        mount_options(options)
    assert message in caught.value.message
