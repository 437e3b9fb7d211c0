"""The user's terminal: raw mode that is always undone, its size, and the keys that detach."""

import os
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from enxame.cli.errors import CliError

DEFAULT_DETACH_KEYS: Final = "ctrl-p,ctrl-q"
_CONTROL: Final = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31, **{chr(c): c - 96 for c in range(97, 123)}}


@contextmanager
def raw_mode(descriptor: int) -> Iterator[None]:
    """No echo, no line editing, no signals from keys; as before afterwards, whatever happens."""
    try:
        before = termios.tcgetattr(descriptor)
    except termios.error:
        yield
        return
    try:
        tty.setraw(descriptor, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def window_size(descriptor: int) -> tuple[int, int]:
    """(rows, columns); zeros when it is no terminal."""
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return 0, 0
    return size.lines, size.columns


def parse_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` → the bytes these keys send. Raises CliError."""
    out = bytearray()
    for key in (text or DEFAULT_DETACH_KEYS).split(","):
        if len(key) == 1:
            out += key.encode()
            continue
        control = _CONTROL.get(key.removeprefix("ctrl-").lower()) if key.lower().startswith("ctrl-") else None
        if control is None:
            raise CliError(f"Unknown character: '{key}'")
        out.append(control)
    return bytes(out)


class DetachKeys:
    """Looks for the key sequence in what is typed; holds back what may be its beginning."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what is to be sent on, whether the sequence is complete)."""
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    return bytes(out), True
                continue
            out += self._keys[: self._matched]
            self._matched = 0
            if byte == self._keys[0]:
                self._matched = 1
            else:
                out.append(byte)
        return bytes(out), False
