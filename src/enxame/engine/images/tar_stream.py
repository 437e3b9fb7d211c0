"""Reading tar archives front to back from untrusted streams: decompression, digests, no seeking. Runs in the worker."""

from __future__ import annotations

import bz2
import hashlib
import io
import lzma
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol

__all__ = ["ArchiveError", "DigestReader", "ForwardReader", "StrictTarInfo", "decompressed", "each_entry", "open_tar"]

CHUNK = 256 * 1024


class ArchiveError(Exception):
    """The archive is damaged or breaks a rule; the message is for the user."""


class _Decompressor(Protocol):
    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, /) -> bytes: ...


class DigestReader:
    """Chunks of a file, with the digest and the number of bytes that went through."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._source.read(CHUNK):
            self._hash.update(chunk)
            self.size += len(chunk)
            yield chunk

    @property
    def digest(self) -> str:
        """Digest of what was read so far."""
        return f"sha256:{self._hash.hexdigest()}"


def decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks as they were before compression; which one (gzip, zstd, xz, bzip2, none) the first bytes tell.

    Raises:
        ArchiveError: the compressed stream is damaged or ends early.
    """
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= 6:
            break
    chunks = _prefixed(head, chunks)
    if head[:2] == b"\x1f\x8b":
        return _inflate(chunks, lambda: zlib.decompressobj(wbits=31), "gzip")
    if head[:4] == b"\x28\xb5\x2f\xfd":
        return _unzstd(chunks)
    if head[:6] == b"\xfd7zXZ\x00":
        return _inflate(chunks, lzma.LZMADecompressor, "xz")
    if head[:3] == b"BZh":
        return _inflate(chunks, bz2.BZ2Decompressor, "bzip2")
    return chunks


def _prefixed(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest


def _inflate(chunks: Iterator[bytes], make: Callable[[], Any], name: str) -> Iterator[bytes]:
    machine: _Decompressor = make()
    fresh = True
    for chunk in chunks:
        data = chunk
        while data:
            try:
                if machine.eof:  # several members in a row are one stream
                    if not data.strip(b"\0"):
                        break
                    machine, fresh = make(), True
                out = machine.decompress(data)
            except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
                raise ArchiveError(f"{name}: invalid data: {error}") from error
            fresh = False
            data = machine.unused_data if machine.eof else b""
            if out:
                yield out
    if not machine.eof and not fresh:
        raise ArchiveError(f"{name}: unexpected EOF")


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    tool = shutil.which("zstd")
    if tool is None:
        raise ArchiveError("this layer is compressed with zstd, and the zstd command is not installed")
    import threading

    with subprocess.Popen(
        [tool, "-dcq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        stdin, failure = process.stdin, []

        def feed() -> None:
            try:
                for chunk in chunks:
                    view = memoryview(chunk)
                    while view:
                        view = view[stdin.write(view) :]
            except BrokenPipeError:
                pass  # zstd has said why on its stderr
            except Exception as error:  # noqa: BLE001 - handed to the reading side
                failure.append(error)
            finally:
                stdin.close()

        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        while out := process.stdout.read(CHUNK):
            yield out
        feeder.join()
        message = process.stderr.read().decode(errors="replace").strip()
        if failure:
            raise failure[0]
        if process.wait() != 0:
            raise ArchiveError(f"zstd: {message or 'invalid data'}")


class ForwardReader(io.RawIOBase):
    """A file over chunks that can be read and skipped forward, as ``tarfile`` does, with a digest of all of it."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._chunk = b""
        self._at = 0  # in the chunk
        self._before = 0  # bytes of the chunks before it
        self._missing = 0  # bytes of a last block that was cut short
        self._hash = hashlib.sha256()

    def _next(self) -> bool:
        chunk = next(self._chunks, b"")
        if not chunk:
            return False
        self._before += len(self._chunk)
        self._hash.update(chunk)
        self._chunk, self._at = chunk, 0
        return True

    def prime(self) -> bool:
        """Read the first chunk, so that what decompresses it is set up; whether there is any."""
        return bool(self._chunk) or self._next()

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes; fewer only at the end."""
        if size < 0:
            raise io.UnsupportedOperation("reading all of an archive into memory")
        end = self._at + size
        if end <= len(self._chunk):
            piece = self._chunk[self._at : end]
            self._at = end
            return piece
        pieces = [self._chunk[self._at :]]
        missing = size - len(pieces[0])
        self._at = len(self._chunk)
        while missing and self._next():
            piece = self._chunk[:missing]
            self._at = len(piece)
            missing -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def tell(self) -> int:
        """Bytes read so far."""
        return self._before + self._at + self._missing

    def end_block(self, end: int) -> None:
        """Skip to ``end``, that of a block. The last one may be cut short, as Docker's client sends a context whose
        Dockerfile comes from elsewhere.
        """
        self.seek(end)
        self._missing += end - self.tell()

    def seek(self, position: int, whence: int = 0) -> int:
        """Skip forward to ``position``."""
        if whence != 0 or position < self.tell():
            raise io.UnsupportedOperation("seeking backward in an archive")
        while self.tell() < position:
            if not self.read(min(position - self.tell(), CHUNK)):
                break
        return self.tell()

    def seekable(self) -> bool:
        """Forward only, which is all that ``tarfile`` asks for."""
        return True

    def readable(self) -> bool:
        """Yes."""
        return True

    def finish(self) -> tuple[str, int]:
        """Read what is left; the digest and the size of the whole."""
        while self._next():
            pass
        return f"sha256:{self._hash.hexdigest()}", self._before + len(self._chunk)


class StrictTarInfo(tarfile.TarInfo):
    """A damaged header is an error wherever it stands; the library takes all but the first for the end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> StrictTarInfo:
        """Read the next header."""
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise ArchiveError(f"archive/tar: invalid tar header: {error}") from error


def open_tar(reader: ForwardReader) -> tarfile.TarFile:
    """The archive, to be iterated once.

    Raises:
        ArchiveError: it does not begin like a tar.
    """
    try:
        return tarfile.TarFile(fileobj=reader, mode="r", tarinfo=StrictTarInfo, errorlevel=2)
    except tarfile.TarError as error:
        raise ArchiveError(f"archive/tar: invalid tar header: {error}") from error


def each_entry(reader: ForwardReader, take: Callable[[tarfile.TarInfo], None]) -> None:
    """Hand all entries over, in their order; ``take`` may read the entry's content from the reader.

    Raises:
        ArchiveError: the archive is damaged.
    """
    archive = open_tar(reader)
    try:
        for entry in archive:
            take(entry)
            if (
                entry.isreg()
                and not entry.sparse
                and reader.seek(entry.offset_data + entry.size) == entry.offset_data + entry.size
            ):
                reader.end_block(archive.offset)
            archive.members = []  # type: ignore[attr-defined]  # or the library remembers each of them
    except tarfile.TarError as error:
        raise ArchiveError(f"archive/tar: {error}") from error
