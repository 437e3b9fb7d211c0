"""Who a container's process runs as: ``user[:group]`` looked up in the image's own passwd and group files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from enxame.errors import EnxameError, InvalidArgument
from enxame.model.natural import natural

_READ_LIMIT = 4 << 20
_LARGEST_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class ResolvedUser:
    """``groups`` are the further groups, ``home`` the value of HOME."""

    uid: int = 0
    gid: int = 0
    groups: list[int] = field(default_factory=list)
    home: str = "/"


def resolve_user(user: str, group_add: list[str], rootfs: str) -> ResolvedUser:
    """Look ``user`` (empty is root) up below ``rootfs``.

    Raises:
        EnxameError: ``unable to find user X: no matching entries in passwd file``, as Docker says it.
    """
    passwd = _rows(rootfs, "etc/passwd", 7)
    group_rows = _rows(rootfs, "etc/group", 4)
    name, _, group = user.partition(":")
    uid, gid, home, login = _find_user(name, passwd)
    if group:
        gid = _find_group(group, group_rows)
        groups: list[int] = []
    else:
        numbers = {natural(row[2]) for row in group_rows if login and login in row[3].split(",")}
        groups = sorted(number for number in numbers if number is not None)
    for extra in group_add:
        number = _find_group(extra, group_rows)
        if number not in groups:
            groups.append(number)
    # The first group among the further ones: a file's group permission cannot be dodged by leaving it.
    return ResolvedUser(uid, gid, [gid, *(number for number in groups if number != gid)], home or "/")


def _find_user(name: str, passwd: list[list[str]]) -> tuple[int, int, str, str]:
    wanted = name or "0"
    for row in passwd:
        if wanted in {row[0], row[2]} and (number := natural(row[2])) is not None:
            return number, natural(row[3]) or 0, row[5], row[0]
    asked = _number(wanted)
    if asked is None:
        raise EnxameError(f"unable to find user {wanted}: no matching entries in passwd file")
    return asked, 0, "/root" if wanted == "0" else "/", ""


def _find_group(name: str, rows: list[list[str]]) -> int:
    for row in rows:
        if name in {row[0], row[2]} and (number := natural(row[2])) is not None:
            return number
    asked = _number(name)
    if asked is None:
        raise EnxameError(f"unable to find group {name}: no matching entries in group file")
    return asked


def _number(text: str) -> int | None:
    """The number that a user or group is; None for a name. Raises InvalidArgument."""
    if not (text.isascii() and text.isdigit()):
        return None
    number = natural(text)
    if number is None or number > _LARGEST_ID:
        raise InvalidArgument(f"uids and gids must be in range 0-{_LARGEST_ID}")
    return number


def _rows(rootfs: str, name: str, columns: int) -> list[list[str]]:
    rows: list[list[str]] = []
    path = inside(rootfs, name)
    try:
        with path.open("rb") as file:
            text = file.read(_READ_LIMIT).decode(errors="replace")
    except OSError:
        return rows
    for line in text.splitlines():
        row = line.split(":")
        if len(row) >= columns and not line.startswith("#"):
            rows.append(row)
    return rows


def inside(rootfs: str, path: str) -> Path:
    """``path`` below ``rootfs`` with symbolic links followed as the container would: never out of ``rootfs``."""
    current: list[str] = []
    pending = [part for part in path.split("/") if part not in {"", "."}][::-1]
    hops = 0
    while pending:
        part = pending.pop()
        if part == "..":
            current = current[:-1]
            continue
        candidate = os.path.join(rootfs, *current, part)
        if os.path.islink(candidate):
            hops += 1
            if hops > 40:
                raise EnxameError(f"too many levels of symbolic links: {path}")
            target = os.readlink(candidate)
            if target.startswith("/"):
                current = []
            pending += [step for step in target.split("/") if step not in {"", "."}][::-1]
        else:
            current.append(part)
    return Path(rootfs, *current)
