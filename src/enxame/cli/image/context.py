"""The files of a build, as a tar that is made while it is sent; ``.dockerignore`` is obeyed."""

import io
import os
import re
import tarfile
from collections.abc import Iterator
from typing import Final

from enxame.cli.errors import CliError

_PIECE: Final = 1 << 18


class Ignored:
    """The rules of a ``.dockerignore``: the last one that matches a path, or a directory above it, decides."""

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for line in text.splitlines():
            rule = line.strip()
            if not rule or rule.startswith("#"):
                continue
            keeps = rule.startswith("!")
            path = os.path.normpath(rule.removeprefix("!").strip()).lstrip("/")
            if path != ".":
                self._rules.append((keeps, re.compile(_expression(path))))
        self.has_exceptions = any(keeps for keeps, _ in self._rules)

    def __contains__(self, path: str) -> bool:
        parts = path.split("/")
        above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        ignored = False
        for keeps, expression in self._rules:
            if any(expression.fullmatch(one) for one in above):
                ignored = not keeps
        return ignored


def _expression(pattern: str) -> str:
    pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    words = re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|\\?.", pattern)
    return "".join(
        pieces.get(word) or (word if word[0] == "[" and len(word) > 1 else re.escape(word[-1])) for word in words
    )


def read_ignored(directory: str) -> Ignored:
    """The directory's ``.dockerignore``; no rules where there is none."""
    try:
        with open(os.path.join(directory, ".dockerignore"), encoding="utf-8-sig") as file:
            return Ignored(file.read())
    except FileNotFoundError:
        return Ignored("")


def directory_context(directory: str, dockerfile: str, extra: tuple[str, bytes] | None = None) -> Iterator[bytes]:
    """The directory as a tar, piece by piece, owned by root. ``dockerfile`` is sent whatever is ignored; ``extra`` is a
    file that is not in the directory.

    Raises:
        CliError: a file cannot be read.
    """
    ignored = read_ignored(directory)
    needed = {dockerfile, ".dockerignore"}
    for path in _walk(directory, ignored):
        if path not in ignored or path in needed:
            yield from _member(directory, path)
    if dockerfile in ignored and extra is None:
        yield from _member(directory, dockerfile)
    if extra is not None:
        yield from file_member(*extra)
    yield bytes(1024)


def _walk(directory: str, ignored: Ignored) -> Iterator[str]:
    for current, folders, names in os.walk(directory):
        folders.sort()
        base = os.path.relpath(current, directory)
        prefix = "" if base == "." else f"{base}/"
        for name in sorted([*folders, *names]):
            yield f"{prefix}{name}"
        if not ignored.has_exceptions:
            folders[:] = [name for name in folders if f"{prefix}{name}" not in ignored]


def _member(directory: str, path: str) -> Iterator[bytes]:
    whole = os.path.join(directory, path)
    try:
        with tarfile.open(fileobj=io.BytesIO(), mode="w", format=tarfile.PAX_FORMAT) as archive:
            info = archive.gettarinfo(whole, path)
        if info is None:
            return  # a socket
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        if info.islnk():
            info.type, info.size = tarfile.REGTYPE, os.lstat(whole).st_size
        yield info.tobuf(tarfile.PAX_FORMAT)
        if info.isreg():
            yield from _content(whole, info.size)
    except OSError as problem:
        raise CliError(f"error checking context: {path}: {(problem.strerror or str(problem)).lower()}") from None


def _content(path: str, size: int) -> Iterator[bytes]:
    left = size
    with open(path, "rb") as file:
        while left:
            piece = file.read(min(_PIECE, left))
            if not piece:
                raise CliError(f"{path} became shorter while it was read")
            left -= len(piece)
            yield piece
    yield bytes(-size % 512)


def file_member(name: str, content: bytes) -> Iterator[bytes]:
    """One file as a member of a tar."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    yield info.tobuf(tarfile.PAX_FORMAT)
    yield content + bytes(-len(content) % 512)
