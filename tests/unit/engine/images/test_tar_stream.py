import bz2
import gzip
import hashlib
import io
import lzma
import shutil
import subprocess
import tarfile

import pytest

from enxame.engine.images.tar_stream import (
    ArchiveError,
    DigestReader,
    ForwardReader,
    decompressed,
    each_entry,
    open_tar,
)


def tar_of(**files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def zstd(data):
    tool = shutil.which("zstd")
    if tool is None:
        pytest.skip("no zstd")
    return subprocess.run([tool, "-qc"], input=data, capture_output=True, check=True).stdout


def pieces(data, size):
    return iter([data[at : at + size] for at in range(0, len(data), size)])


CONTENT = tar_of(a=b"x" * 5000, b=b"", c=bytes(range(256)) * 4000)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress, bz2.compress, zstd])
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_archives_come_out_whole_however_they_are_compressed_and_cut(compress, size):
    reader = ForwardReader(decompressed(pieces(compress(CONTENT), size)))
    names = []
    for entry in open_tar(reader):
        names.append((entry.name, entry.size))
        if entry.name == "c":
            assert reader.read(300) == (bytes(range(256)) * 2)[:300]  # the rest is skipped
    assert names == [("a", 5000), ("b", 0), ("c", 256 * 4000)]
    assert reader.finish() == (f"sha256:{hashlib.sha256(CONTENT).hexdigest()}", len(CONTENT))


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, bz2.compress, zstd])
def test_a_compressed_stream_that_ends_early_is_an_error(compress):
    data = compress(CONTENT)
    with pytest.raises(ArchiveError):
        list(decompressed(pieces(data[: len(data) // 2], 1000)))


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_a_last_block_may_be_cut_short_but_not_its_content(size):
    data = tar_of(a=b"x" * 5000, b=b"y" * 700).rstrip(b"\0")
    reader, found = ForwardReader(pieces(data, size)), []
    each_entry(reader, lambda entry: found.append((entry.name, reader.read(entry.size)[-1:])))
    assert found == [("a", b"x"), ("b", b"y")]
    assert reader.finish() == (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
    with pytest.raises(ArchiveError, match="unexpected end of data"):
        each_entry(ForwardReader(pieces(data[:-1], size)), lambda entry: None)


def test_damaged_compression_is_an_error():
    data = bytearray(gzip.compress(CONTENT))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ArchiveError, match="gzip"):
        list(decompressed(pieces(bytes(data), 1000)))


def test_several_gzip_members_are_one_stream():
    data = gzip.compress(CONTENT[:1000]) + gzip.compress(CONTENT[1000:])
    assert b"".join(decompressed(pieces(data, 777))) == CONTENT


def test_a_damaged_header_in_the_middle_is_an_error_and_not_the_end():
    data = bytearray(CONTENT)
    at = data.index(b"c\0", 512)
    data[at : at + 100] = b"?" * 100
    with pytest.raises(ArchiveError, match="invalid tar header"):
        list(open_tar(ForwardReader(iter([bytes(data)]))))


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100])
def test_what_is_no_tar_is_refused(data):
    with pytest.raises(ArchiveError, match="invalid tar header"):
        open_tar(ForwardReader(pieces(data, 1000)))


def test_the_digest_of_the_compressed_file_is_counted():
    source = DigestReader(io.BytesIO(b"abc"))
    assert b"".join(source) == b"abc"
    assert (source.digest, source.size) == (f"sha256:{hashlib.sha256(b'abc').hexdigest()}", 3)


def test_reading_backward_is_refused():
    reader = ForwardReader(iter([b"abcdef"]))
    reader.read(3)
    assert reader.tell() == 3
    with pytest.raises(io.UnsupportedOperation):
        reader.seek(2)
