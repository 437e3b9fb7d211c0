"""``enxame cp``: files between a container and here."""

import base64
import contextlib
import json
import os
import stat
import sys
import tarfile
import threading
from collections.abc import Generator
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from enxame.cli.client import Stream, quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError, DaemonError
from enxame.cli.flags import switch
from enxame.cli.session import Session

_CHUNK = 1 << 18
#: Go's bits for a directory and a link in a file mode.
_DIRECTORY, _LINK = 1 << 31, 1 << 27


@command(
    "cp",
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tenxame cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files/folders between a container and the local filesystem",
    flags=[
        switch("a,archive", "Archive mode (copy all uid/gid information)"),
        switch("L,follow-link", "Always follow symbol link in SRC_PATH"),
        switch("q,quiet", "Suppress progress output during copy"),
    ],
    count=(2, 2),
    completes="container",
)
def cp(cli: Session, flags: Flags, args: Args) -> None:
    """Copies in or out; ``-`` is a tar on stdin or stdout."""
    source, target = args
    if not source or not target:
        raise CliError("source and destination can not be empty")
    from_container, from_path = _split(source)
    to_container, to_path = _split(target)
    if from_container and to_container:
        raise CliError("copying between containers is not supported")
    if from_container:
        _copy_out(cli, from_container, from_path, to_path, follow=flags["follow-link"], owners=flags["archive"])
    elif to_container:
        _copy_in(cli, from_path, to_container, to_path, follow=flags["follow-link"], owners=flags["archive"])
    else:
        raise CliError("must specify at least one container source")


def _split(argument: str) -> tuple[str, str]:
    """Container and path; no container for a local path (``./a:b`` is one)."""
    if argument.startswith("/"):
        return "", argument
    container, colon, path = argument.partition(":")
    if not colon or container.startswith("."):
        return "", argument
    return container, path


# -- out of a container


def _copy_out(cli: Session, container: str, path: str, target: str, *, follow: bool, owners: bool) -> None:
    if follow and (found := _stat(cli, container, path)) and found["mode"] & _LINK:
        path = found["linkTarget"]
    with cli.client.stream("GET", f"/containers/{quoted(container)}/archive", {"path": path}) as stream:
        if target == "-":
            if cli.out_is_terminal():
                raise CliError("cowardly refusing to write an archive to a terminal: redirect it")
            for data in stream.chunks():
                cli.out.buffer.write(data)
            cli.out.buffer.flush()
            return
        found = _told(stream)
        directory, name = _place(target, is_directory=bool(found["mode"] & _DIRECTORY))
        _extract(stream, directory, found["name"], name, owners=owners)


def _place(target: str, *, is_directory: bool) -> tuple[str, str]:
    """The local directory to put it in, and its new name (empty: its own). Raises CliError."""
    if os.path.isdir(target):
        return target, ""
    if os.path.exists(target) and is_directory:
        raise CliError("cannot copy directory")
    if target.endswith(("/", "/.")) and not is_directory:
        raise CliError("no such directory")
    directory, name = os.path.split(os.path.normpath(target))
    if not os.path.isdir(directory or "."):
        raise CliError(f'invalid output path: directory "{os.path.abspath(directory)}" does not exist')
    return directory or ".", name


def _extract(stream: Stream, directory: str, old: str, new: str, *, owners: bool) -> None:
    def renamed(member: tarfile.TarInfo, place: str) -> tarfile.TarInfo | None:
        name = _rebased(member.name, old, new)
        link = _rebased(member.linkname, old, new) if member.islnk() else member.linkname
        plain = {} if owners else {"uid": None, "gid": None, "uname": None, "gname": None}
        changed = cast("Any", member).replace(name=name, linkname=link, deep=False, **plain)
        return tarfile.tar_filter(changed, place)

    try:
        with tarfile.open(fileobj=cast("BinaryIO", _Reader(stream)), mode="r|", bufsize=_CHUNK) as archive:
            archive.extractall(directory, numeric_owner=True, filter=renamed)
    except (tarfile.TarError, OSError) as problem:
        raise CliError(str(problem)) from None


def _rebased(name: str, old: str, new: str) -> str:
    """A name under ``new`` instead of ``old``."""
    if not new:
        return name
    below = PurePosixPath(name).parts
    if old not in {".", "/"} and below[:1] == (old,):
        below = below[1:]
    return str(PurePosixPath(new, *[part for part in below if part != "/"]))


class _Reader:
    """The stream as a file that ``tarfile`` reads forward."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """As many bytes, unless it ends."""
        pieces, missing = [], size
        while missing and (data := self._stream.read1(missing)):
            pieces.append(data)
            missing -= len(data)
        return b"".join(pieces)


# -- into a container


def _copy_in(cli: Session, source: str, container: str, path: str, *, follow: bool, owners: bool) -> None:
    found = _stat(cli, container, path)
    if found is not None and found["mode"] & _LINK:
        path = found["linkTarget"]
        found = _stat(cli, container, path)
    exists, is_directory = found is not None, found is not None and bool(found["mode"] & _DIRECTORY)
    if source == "-":
        if not is_directory:
            raise CliError(f'destination "{container}:{path}" must be a directory')
        directory, chunks = path, _standard_input()
    else:
        if follow:
            base = source.removesuffix("/.").rstrip("/")
            source = os.path.realpath(base) + source[len(base) :]
        if not os.path.lexists(source):
            raise CliError(f"lstat {os.path.abspath(source)}: no such file or directory")
        whole = os.path.isdir(source) and not (os.path.islink(source) and not source.endswith("/"))
        own = "." if source.endswith("/.") or source == "." else os.path.basename(os.path.abspath(source))
        if is_directory:
            directory, name = path, own
        elif exists and whole:
            raise CliError("cannot copy directory")
        elif not exists and path.endswith(("/", "/.")) and not whole:
            raise CliError("no such directory")
        else:
            bare = path.rstrip("/") or "/"
            directory, name = os.path.dirname(bare) or "/", os.path.basename(bare)
        chunks = _packed(source, name)
    query: dict[str, str | int | bool | list[str] | None] = {"noOverwriteDirNonDir": "true", "path": directory}
    if owners:
        query["copyUIDGID"] = "true"
    headers = {"Content-Type": "application/x-tar"}
    address = f"/containers/{quoted(container)}/archive"
    with contextlib.closing(chunks), cli.client.stream("PUT", address, query, chunks, headers) as stream:
        for _ in stream.chunks():
            pass


def _standard_input() -> Generator[bytes, None, None]:
    while data := os.read(sys.stdin.fileno(), _CHUNK):
        yield data


def _packed(source: str, name: str) -> Generator[bytes, None, None]:
    """A tar of a local file or tree under another name, made while it is sent."""
    read_end, write_end = os.pipe()
    problems: list[Exception] = []

    def pack() -> None:
        try:
            with (
                open(write_end, "wb") as pipe,
                tarfile.open(fileobj=pipe, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_CHUNK) as archive,
            ):
                archive.add(source, name, filter=_numbers_only)
        except BrokenPipeError:
            return  # the daemon has refused the rest; it says why
        except (OSError, tarfile.TarError) as problem:
            problems.append(problem)

    packer = threading.Thread(target=pack, daemon=True)
    packer.start()
    try:
        with open(read_end, "rb", buffering=0) as pipe:
            while data := pipe.read(_CHUNK):
                yield data
    finally:
        packer.join()
    if problems:
        raise CliError(str(problems[0]))


def _numbers_only(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    member.uname = member.gname = ""
    return None if stat.S_ISSOCK(member.mode) else member


# -- what is there


def _stat(cli: Session, container: str, path: str) -> dict[str, Any] | None:
    """What is at a path in a container; None when nothing is, or there is no such container: the next call says so."""
    try:
        with cli.client.stream("HEAD", f"/containers/{quoted(container)}/archive", {"path": path}) as stream:
            return _told(stream)
    except DaemonError as problem:
        if problem.status == 404:
            return None
        raise


def _told(stream: Stream) -> dict[str, Any]:
    text = stream.headers.get("X-Docker-Container-Path-Stat", "")
    try:
        return cast("dict[str, Any]", json.loads(base64.b64decode(text)))
    except ValueError:
        return {"name": "", "size": 0, "mode": 0, "linkTarget": ""}
