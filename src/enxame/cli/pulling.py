"""Pulling and pushing images: the daemon's progress messages, shown."""

from collections.abc import Iterable
from typing import Any, TextIO

from enxame.cli.errors import CliError
from enxame.cli.humanise import size_words
from enxame.cli.images import split_reference, with_tag
from enxame.cli.session import Session, colours

Json = dict[str, Any]


def pull_image(
    cli: Session,
    image: str,
    *,
    platform: str = "",
    quiet: bool = False,
    out: TextIO | None = None,
    all_tags: bool = False,
) -> str:
    """Pulls and shows progress on ``out``; returns the whole name. Raises CliError."""
    full = with_tag(image) if not all_tags else image
    name, tag, digest = split_reference(full)
    query = {"fromImage": name, "tag": (digest or tag) if not all_tags else None, "platform": platform or None}
    headers = {"X-Registry-Auth": auth} if (auth := cli.registry_auth(image)) else None
    with cli.client.stream("POST", "/images/create", query, headers=headers) as stream:
        show_messages(stream.messages(), None if quiet else out or cli.out)
    return full


def show_messages(messages: Iterable[Json], out: TextIO | None) -> list[Json]:
    """Prints progress as it comes; returns the auxiliary values. Raises CliError for an error among the messages."""
    auxiliary: list[Json] = []
    lines: dict[str, int] = {}
    terminal = out is not None and colours(out)
    for message in messages:
        problem = message.get("errorDetail") or ({"message": message["error"]} if message.get("error") else None)
        if problem:
            raise CliError(str(problem.get("message", "")), int(problem.get("code") or 1))
        if message.get("aux") is not None:
            auxiliary.append(message["aux"])
            continue
        if out is None:
            continue
        if "stream" in message:
            out.write(message["stream"])
        elif terminal:
            _terminal_line(out, message, lines)
        else:
            _plain_line(out, message)
        out.flush()
    return auxiliary


def _plain_line(out: TextIO, message: Json) -> None:
    if (message.get("progressDetail") or {}).get("total") or message.get("progress"):
        return
    prefix = f"{message['id']}: " if message.get("id") else ""
    out.write(f"{prefix}{message.get('status', '')}\n")


def _terminal_line(out: TextIO, message: Json, lines: dict[str, int]) -> None:
    identifier, status = message.get("id", ""), message.get("status", "")
    detail = message.get("progressDetail") or {}
    progress = _bar(detail) if detail.get("current") else message.get("progress", "")
    text = f"{status} {progress}".rstrip()
    if not identifier:
        out.write(f"{text}\n")
        lines.clear()
        return
    if identifier not in lines:
        lines[identifier] = len(lines)
        out.write("\n")
    up = len(lines) - lines[identifier]
    out.write(f"\x1b[{up}A\x1b[2K\r{identifier}: {text}\r\x1b[{up}B")


def _bar(detail: Json) -> str:
    current, total = detail.get("current", 0), detail.get("total", 0)
    if total <= 0:
        return size_words(current)
    filled = min(int(current / total * 50), 50)
    arrow = ">" if filled < 50 else ""
    return f"[{'=' * filled}{arrow}{' ' * (50 - filled - len(arrow))}]  {size_words(current)}/{size_words(total)}"
