"""Progress of several things at once: lines that are rewritten in place on a terminal, plain lines elsewhere."""

import shutil
import sys
from typing import Protocol, TextIO

from enxame.cli.session import Session, colours

_BAR = 50


class Progress(Protocol):
    """Where progress is shown."""

    def update(self, name: str, action: str, current: int = 0, total: int = 0) -> None:
        """The newest of one thing; with a total as a bar."""
        ...

    def message(self, name: str, text: str) -> None:
        """Something that stays."""
        ...

    def close(self) -> None:
        """No more comes."""
        ...


class Silent:
    """Shows nothing."""

    def update(self, name: str, action: str, current: int = 0, total: int = 0) -> None:
        """Nothing."""

    def message(self, name: str, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class PlainLines:
    """One line for each news; what only moves a bar is no news."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last: dict[str, str] = {}

    def update(self, name: str, action: str, current: int = 0, total: int = 0) -> None:  # noqa: ARG002
        """A line, unless it is a bar or the same as before."""
        if total or not action.strip() or self._last.get(name) == action:
            return
        self._last[name] = action
        self._out.write(f"{name}: {action}\n")
        self._out.flush()

    def message(self, name: str, text: str) -> None:
        """A line."""
        self._out.write(f"{name}: {text}\n" if name else f"{text}\n")
        self._out.flush()

    def close(self) -> None:
        """Nothing is held back."""


class TerminalLines:
    """A line for each name, rewritten in place."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines: dict[str, int] = {}
        self._shown: dict[str, str] = {}

    def update(self, name: str, action: str, current: int = 0, total: int = 0) -> None:
        """Rewrites the name's line."""
        text = f"{name}: {action} {_bar(current, total)}".rstrip() if total else f"{name}: {action}"
        width = shutil.get_terminal_size((80, 24)).columns
        text = text[: width - 1]
        if self._shown.get(name) == text:
            return
        self._shown[name] = text
        if name not in self._lines:
            self._lines[name] = len(self._lines)
            self._out.write("\n")
        up = len(self._lines) - self._lines[name]
        self._out.write(f"\x1b[{up}A\x1b[2K\r{text}\r\x1b[{up}B")
        self._out.flush()

    def message(self, name: str, text: str) -> None:
        """A line below the others."""
        self._out.write(f"{name}: {text}\n" if name else f"{text}\n")
        self._lines.clear()
        self._shown.clear()
        self._out.flush()

    def close(self) -> None:
        """The cursor is below the lines already."""
        self._out.flush()


def _bar(current: int, total: int) -> str:
    width = min(_BAR, max(shutil.get_terminal_size((80, 24)).columns - 30, 10))
    filled = min(current, total) * width // total
    return f"[{'=' * filled}{'>' if filled < width else ''}{' ' * max(width - filled - 1, 0)}]"


def display(cli: Session, *, quiet: bool = False) -> Progress:
    """The right kind of progress for stdout."""
    if quiet:
        return Silent()
    return TerminalLines(sys.stdout) if cli.out_is_terminal() and colours(sys.stdout) else PlainLines(sys.stdout)
