"""Layers as they come, also from those who mean harm. Each archive is unpacked by a real worker."""

import gzip
import hashlib
import os
import stat
import subprocess
import tarfile

import pytest

from enxame.engine.images.worker_process import unpack_layer
from enxame.errors import InvalidArgument
from tests.engine.image_lab import entry, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chroot, owners, device nodes")

DIR, SYM, LNK, CHR, BLK, FIFO = (
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
)


@pytest.fixture
def place(tmp_path):
    """A directory with something beside it that must not be touched."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("untouched")
    (tmp_path / "layer").mkdir()
    return tmp_path


async def unpack(place, *entries, raw=None):
    blob = place / "blob"
    blob.write_bytes(raw if raw is not None else tar(entries))
    return await unpack_layer(blob, place / "layer")


def all_below(path):
    return sorted(
        os.path.relpath(os.path.join(at, name), path) for at, dirs, names in os.walk(path) for name in dirs + names
    )


def assert_nothing_outside(place):
    assert all_below(place / "outside") == ["file"]
    assert (place / "outside" / "file").read_text() == "untouched"
    assert sorted(os.listdir(place)) == ["blob", "layer", "outside"]


async def test_files_keep_owner_mode_time_links_and_attributes(place):
    result = await unpack(
        place,
        entry("bin", DIR, mode=0o751, mtime=11),
        entry("bin/su", content=b"su", mode=0o4755, uid=0, gid=42, mtime=1234567890.5),
        entry("bin/same", LNK, linkname="bin/su"),
        entry("bin/link", SYM, linkname="/bin/su", uid=7, mtime=5),
        entry("run", FIFO, mode=0o600),
        entry("dev/null", CHR, devmajor=1, devminor=3, mode=0o666),
        entry("cap", content=b"", pax_headers={"SCHILY.xattr.user.note": "hé"}),
        entry("home/user", DIR, uid=1000, gid=1000, mode=0o1777),
    )
    layer = place / "layer"
    su = (layer / "bin/su").stat()
    assert (stat.S_IMODE(su.st_mode), su.st_gid, su.st_mtime, su.st_nlink) == (0o4755, 42, 1234567890.5, 2)
    assert (layer / "bin").stat().st_mtime == 11
    assert stat.S_IMODE((layer / "bin").stat().st_mode) == 0o751
    assert os.readlink(layer / "bin/link") == "/bin/su"
    assert (layer / "bin/link").lstat().st_uid == 7
    assert stat.S_ISFIFO((layer / "run").stat().st_mode)
    assert (layer / "dev/null").stat().st_rdev == os.makedev(1, 3)
    assert os.getxattr(layer / "cap", "user.note") == "hé".encode()
    assert (stat.S_IMODE((layer / "home/user").stat().st_mode), (layer / "home/user").stat().st_uid) == (0o1777, 1000)
    assert stat.S_IMODE((layer / "home").stat().st_mode) == 0o755
    assert result.size == 2


async def test_digests_are_of_the_blob_and_of_the_tar(place):
    plain = tar([entry("f", content=b"x" * 100_000)])
    packed = gzip.compress(plain)
    result = await unpack(place, raw=packed)
    assert result.digest == f"sha256:{hashlib.sha256(packed).hexdigest()}"
    assert result.diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"
    assert (result.blob_size, result.size) == (len(packed), 100_000)


async def test_whiteouts_take_overlayfs_form(place):
    await unpack(
        place,
        entry("a/.wh.gone"),
        entry("b/.wh..wh..opq"),
        entry("b/new", content=b"x"),
        entry(".wh.replaced"),
        entry("replaced", DIR),
        entry("late", DIR),
        entry(".wh.late"),
        entry(".wh..wh.plnk/1"),
    )
    layer = place / "layer"
    gone = (layer / "a/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    for hidden in ("b", "replaced", "late"):
        assert os.getxattr(layer / hidden, "trusted.overlay.opaque") == b"y"
    assert not [name for name in all_below(layer) if ".wh.gone" in name or ".opq" in name]


async def test_later_entries_replace_earlier_ones(place):
    await unpack(
        place,
        entry("x", content=b"file"),
        entry("x", DIR),
        entry("x/y", content=b"1"),
        entry("x/y", content=b"22"),
        entry("z", DIR),
        entry("z/deep/er", content=b"1"),
        entry("z", SYM, linkname="x"),
        entry("z/through", content=b"3"),
    )
    assert (place / "layer/x/y").read_bytes() == b"22"
    assert os.readlink(place / "layer/z") == "x"
    assert (place / "layer/x/through").read_bytes() == b"3"


async def test_sparse_files_keep_their_holes(place):
    source = place / "sparse"
    with source.open("wb") as file:
        file.write(b"head")
        file.seek(10 << 20)
        file.write(b"tail")
    subprocess.run(  # noqa: ASYNC221 - some milliseconds
        ["tar", "-C", place, "--sparse", "--format=gnu", "-cf", place / "raw.tar", "sparse"], check=True
    )
    raw = (place / "raw.tar").read_bytes()
    await unpack(place, raw=raw)
    copy = place / "layer/sparse"
    assert copy.read_bytes() == source.read_bytes()
    assert copy.stat().st_blocks < 100


@pytest.mark.parametrize("name", ["../outside/file", "a/../../outside/file", "/../outside/file", ".."])
async def test_names_that_climb_out_are_refused(place, name):
    with pytest.raises(InvalidArgument, match="is outside of the layer"):
        await unpack(place, entry(name, content=b"bad"))
    assert_nothing_outside(place)


async def test_absolute_names_stay_inside(place):
    outside = place / "outside"
    await unpack(place, entry(f"{outside}/file", content=b"bad"), entry("//etc/x", content=b"x"))
    assert (place / "layer/etc/x").read_bytes() == b"x"
    assert_nothing_outside(place)


@pytest.mark.parametrize(
    "target", ["{outside}", "../outside", "../../../../../../../../{outside}", "/proc/self/root{outside}"]
)
async def test_links_to_directories_lead_nowhere_else(place, target):
    link = target.format(outside=place / "outside")
    await unpack(
        place, entry("trap", SYM, linkname=link), entry("trap/file", content=b"bad"), entry("trap/new", content=b"bad")
    )
    assert_nothing_outside(place)


async def test_a_file_over_a_link_replaces_the_link(place):
    await unpack(place, entry("trap", SYM, linkname=f"{place}/outside/file"), entry("trap", content=b"bad", mode=0o777))
    assert not (place / "layer/trap").is_symlink()
    assert_nothing_outside(place)


async def test_attributes_of_links_do_not_reach_what_they_lead_to(place):
    before = (place / "outside/file").stat()
    await unpack(place, entry("trap", SYM, linkname=f"{place}/outside/file", mode=0o777, uid=99, mtime=1))
    after = (place / "outside/file").stat()
    assert (before.st_mode, before.st_uid, before.st_mtime) == (after.st_mode, after.st_uid, after.st_mtime)


@pytest.mark.parametrize("target", ["../outside/file", "a/../../outside/file"])
async def test_hard_links_that_climb_out_are_refused(place, target):
    with pytest.raises(InvalidArgument, match="is outside of the layer"):
        await unpack(place, entry("link", LNK, linkname=target))
    assert_nothing_outside(place)


async def test_hard_links_to_what_is_not_of_the_layer_are_refused(place):
    for target in (f"{place}/outside/file", "missing", "etc"):
        with pytest.raises(InvalidArgument, match="is not a file of this layer"):
            await unpack(place, entry("etc", DIR), entry("link", LNK, linkname=target))
    assert (place / "outside/file").stat().st_nlink == 1


async def test_a_hard_link_through_a_link_is_of_the_layer_or_refused(place):
    with pytest.raises(InvalidArgument, match="is not a file of this layer"):
        await unpack(place, entry("trap", SYM, linkname=f"{place}/outside"), entry("link", LNK, linkname="trap/file"))
    assert (place / "outside/file").stat().st_nlink == 1


async def test_a_file_over_a_device_node_is_not_written_to_the_device(place):
    await unpack(place, entry("dev", CHR, devmajor=1, devminor=8), entry("dev", content=b"x" * 10))
    assert (place / "layer/dev").read_bytes() == b"x" * 10


@pytest.mark.parametrize("name", ["a/.wh...", "a/.wh..", "a/.wh."])
async def test_whiteouts_of_the_directory_itself_are_refused(place, name):
    with pytest.raises(InvalidArgument, match="invalid whiteout"):
        await unpack(place, entry("a", DIR), entry(name))
    assert_nothing_outside(place)


async def test_a_whiteout_through_a_link_stays_inside(place):
    await unpack(
        place, entry("trap", SYM, linkname=f"{place}/outside"), entry("trap/.wh.file"), entry("trap/.wh..wh..opq")
    )
    assert_nothing_outside(place)


async def test_overlayfs_attributes_of_the_archive_are_left_out(place):
    await unpack(place, entry("d", DIR, pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/etc"}))
    assert "trusted.overlay.redirect" not in os.listxattr(place / "layer/d")


async def test_the_root_must_stay_a_directory(place):
    with pytest.raises(InvalidArgument, match="must be a directory"):
        await unpack(place, entry("./", SYM, linkname="/etc"))


async def test_unknown_kinds_of_entries_are_refused(place):
    with pytest.raises(InvalidArgument, match="unhandled tar header type"):
        await unpack(place, entry("x", b"V"))


@pytest.mark.parametrize("cut", [600, 5000, 700_000])
async def test_truncated_layers_are_refused(place, cut):
    raw = tar([entry("a", content=b"x" * 300_000), entry("b", content=b"y" * 600_000)])
    with pytest.raises(InvalidArgument, match=r"unexpected EOF|invalid tar header|unexpected end"):
        await unpack(place, raw=raw[:cut])
    assert_nothing_outside(place)
