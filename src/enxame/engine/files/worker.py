"""The worker process: reads and writes a container's files, confined to them. One job a process, told as JSON.

    root: {"pid", "start"} | {"path", "mounts", "read_only"}       what to enter
    job: "stat" | "read" | "write" | "tree" | "layer"              and its own words

The first line of its standard output is the answer; after it, for ``read``, ``tree`` and ``layer``, a tar. ``write``
reads a tar from standard input and answers at its end. A job that failed answers ``{"error": …, "errno": …}``.
"""

from __future__ import annotations

import errno
import json
import os
import posixpath
import stat
import sys

# What the jobs need is imported here: once confined, nothing can be.
import tarfile  # noqa: F401
import time
from typing import Any

from enxame.engine.files.confinement import enter_process, enter_tree
from enxame.engine.files.tar_placing import TarPlacer
from enxame.engine.files.tar_writing import TarWriter
from enxame.engine.images.tar_stream import CHUNK, ArchiveError, ForwardReader, decompressed

#: Go's os.FileMode, which the API speaks: kinds have bits of their own above the nine of the permissions.
_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
}


def go_mode(mode: int) -> int:
    """A mode of stat(2) as Go writes it."""
    bits = stat.S_IMODE(mode) & 0o777 | _KINDS.get(stat.S_IFMT(mode), 0)
    for flag, bit in ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20)):
        bits |= bit if mode & flag else 0
    return bits


def resolve(path: str) -> str:
    """The path with all links but a last one followed, as ``docker cp`` takes it: ``link/`` is what it leads to."""
    absolute = posixpath.normpath(f"/{path.lstrip('/')}")
    if absolute == "/":
        return "/"
    if path.endswith(("/", "/.")):
        found = os.path.realpath(absolute, strict=True)
        if not os.path.isdir(found):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return found
    return posixpath.join(os.path.realpath(posixpath.dirname(absolute), strict=True), posixpath.basename(absolute))


def _stat(path: str) -> dict[str, Any]:
    found = resolve(path)
    info = os.lstat(found)
    link = ""
    if stat.S_ISLNK(info.st_mode):
        link = os.path.realpath(found)
    name = posixpath.basename(posixpath.normpath(path)) or "/"
    return {
        "name": "." if path.endswith("/.") else name,
        "size": info.st_size,
        "mode": go_mode(info.st_mode),
        "mtime": _rfc3339(info.st_mtime_ns),
        "linkTarget": link,
    }


def _rfc3339(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = time.gmtime(seconds)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{moment[0]:04}-{moment[1]:02}-{moment[2]:02}T{moment[3]:02}:{moment[4]:02}:{moment[5]:02}{fraction}Z"


def _read(path: str) -> None:
    shown = _stat(path)
    _answer({"stat": shown})
    name = "" if shown["name"] == "/" else shown["name"]
    _send(resolve(path), name or "/")


def _write(path: str, owner: list[int] | None, keep_kinds: bool, reader: ForwardReader | None) -> None:
    directory = os.path.realpath(f"/{path.lstrip('/')}", strict=True)
    if not os.path.isdir(directory):
        raise ArchiveError("extraction point is not a directory")
    if reader is None:
        return
    chosen = (owner[0], owner[1]) if owner else None
    TarPlacer(directory, owner=chosen, keep_kinds=keep_kinds).place(reader)
    reader.finish()


def _send(path: str, name: str, *, layer: bool = False) -> None:
    with os.fdopen(os.dup(1), "wb", buffering=1 << 18) as out:
        writer = TarWriter(out, layer=layer)
        if name:
            writer.add(path, name)
        else:
            for base in sorted(os.listdir(path)):
                writer.add(posixpath.join(path, base), base)
        writer.finish()


def _answer(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def _standard_input() -> Any:
    while chunk := os.read(0, CHUNK):
        yield chunk


def run(job: str, root: dict[str, Any], words: dict[str, Any]) -> None:
    """Enter the container and do the job. Raises ArchiveError, OSError."""
    os.umask(0)
    reader = None
    if job == "write":
        reader = ForwardReader(decompressed(_standard_input()))
        # Finds the decompressor while the host's tools are still in reach; nothing at all is a tar without entries.
        reader = reader if reader.prime() else None
    if "pid" in root:
        enter_process(**root)
    else:
        enter_tree(root["path"], root["mounts"], read_only=root["read_only"])
    match job:
        case "stat":
            _answer({"stat": _stat(words["path"])})
        case "read":
            _read(words["path"])
        case "write":
            _write(words["path"], words["owner"], words["keep_kinds"], reader)
            _answer({})
        case _:
            _answer({})
            _send("/", "", layer=job == "layer")


def main() -> int:
    """Do the job of ``argv[1]``. Returns the exit code: 0 also for a job that failed with an answer."""
    given = json.loads(sys.argv[1])
    try:
        run(given["job"], given["root"], given["words"])
    except ArchiveError as error:
        _answer({"error": str(error), "errno": 0})
    except BrokenPipeError:
        return 1
    except OSError as error:
        number = error.errno or errno.EIO
        place = f" {error.filename}" if error.filename else ""
        _answer({"error": f"{os.strerror(number).lower()}{place}", "errno": number})
    return 0


if __name__ == "__main__":
    sys.exit(main())
