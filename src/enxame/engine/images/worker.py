"""The worker process: reads untrusted archives outside the daemon. One job a process, told as JSON in the argument.

    {"job": "unpack", "blob": PATH, "into": DIRECTORY}   -> {"diff_id", "digest", "blob_size", "size"}
    {"job": "context", "into": DIRECTORY} -> {"size"}
    {"job": "stage", "into": DIRECTORY}   -> {"files": {NAME: {"path", "digest", "size"}}, "links": {NAME: NAME}}

``stage`` reads an image archive from standard input, ``context`` the files of a build. The answer is one JSON line;
``{"error": …, "errno": …}`` when the job failed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import posixpath
import sys
import tarfile
from collections.abc import Callable
from typing import Any, Final

from enxame.engine.images.layer_unpack import LayerUnpacker
from enxame.engine.images.tar_stream import (
    CHUNK,
    ArchiveError,
    DigestReader,
    ForwardReader,
    decompressed,
    open_tar,
)


def _unpack(blob: str, into: str) -> dict[str, Any]:
    with open(blob, "rb", buffering=0) as source:
        compressed = DigestReader(source)
        reader = ForwardReader(decompressed(iter(compressed)))
        reader.prime()  # finds the decompressor while the host's tools are still in reach
        os.chroot(into)
        os.chdir("/")
        os.umask(0)
        unpacker = LayerUnpacker()
        unpacker.unpack(reader)
        diff_id, _ = reader.finish()
        for _rest in compressed:
            pass  # padding behind the compressed stream belongs to the blob
    return {"diff_id": diff_id, "digest": compressed.digest, "blob_size": compressed.size, "size": unpacker.size}


def _context(into: str) -> dict[str, Any]:
    reader = ForwardReader(decompressed(iter(DigestReader(sys.stdin.buffer))))
    reader.prime()
    os.chroot(into)
    os.chdir("/")
    os.umask(0)
    unpacker = LayerUnpacker(whiteouts=False)
    unpacker.unpack(reader)
    reader.finish()
    return {"size": unpacker.size}


def _stage(into: str) -> dict[str, Any]:
    reader = ForwardReader(decompressed(iter(DigestReader(sys.stdin.buffer))))
    files: dict[str, dict[str, Any]] = {}
    links: dict[str, str] = {}
    try:
        for number, entry in enumerate(open_tar(reader)):
            name = posixpath.normpath(entry.name.lstrip("/") or ".")
            if entry.isreg():
                # The name is only a key: what is written has a number.
                files[name] = _stage_file(reader, os.path.join(into, str(number)), entry)
                links.pop(name, None)
            elif entry.issym():
                links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), entry.linkname))
                files.pop(name, None)
            elif entry.islnk():
                links[name] = posixpath.normpath(entry.linkname.lstrip("/"))
                files.pop(name, None)
    except tarfile.TarError as error:
        raise ArchiveError(f"archive/tar: {error}") from error
    reader.finish()
    return {"files": files, "links": links}


def _stage_file(reader: ForwardReader, path: str, entry: tarfile.TarInfo) -> dict[str, Any]:
    digest = hashlib.sha256()
    left = entry.size
    with open(path, "xb", buffering=0) as file:
        while left:
            piece = reader.read(min(left, CHUNK))
            if not piece:
                raise ArchiveError("unexpected EOF")
            left -= len(piece)
            digest.update(piece)
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]
    return {"path": path, "digest": f"sha256:{digest.hexdigest()}", "size": entry.size}


_JOBS: Final[dict[str, Callable[..., dict[str, Any]]]] = {"unpack": _unpack, "context": _context, "stage": _stage}


def main() -> int:
    """Do the job of ``argv[1]``. Returns the exit code: 0 also for a job that failed with an answer."""
    job = json.loads(sys.argv[1])
    kind = job.pop("job")
    try:
        answer = _JOBS[kind](**job)
    except ArchiveError as error:
        answer = {"error": str(error), "errno": 0}
    except OSError as error:
        number = error.errno or errno.EIO
        place = f" {error.filename!r}" if error.filename else ""
        answer = {"error": f"write{place}: {os.strerror(number).lower()}", "errno": number}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
