"""The keys that leave an attached terminal without ending what runs in it (ctrl-p, ctrl-q)."""

from __future__ import annotations

from typing import Final

from enxame.errors import InvalidArgument

DEFAULT: Final = b"\x10\x11"

_CONTROLS: Final = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` or ``ctrl-a,x`` as the bytes that a terminal sends; empty is the default.

    Raises:
        InvalidArgument: not such a list.
    """
    if not text:
        return DEFAULT
    keys = bytearray()
    for key in text.split(","):
        control = key.removeprefix("ctrl-")
        if len(key) == 1 and key.isascii():
            keys += key.encode()
        elif control != key and len(control) == 1 and "a" <= control <= "z":
            keys.append(ord(control) - ord("a") + 1)
        elif control != key and control in _CONTROLS:
            keys.append(_CONTROLS[control])
        else:
            raise InvalidArgument(f"Invalid detach keys ({text}) provided")
    return bytes(keys)


class DetachScanner:
    """Finds the keys in what a user types, also when they come in pieces. What is held back is at most the keys'
    beginning, and only until the next key shows that they were not meant.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What of ``data`` is for the process, and whether the user wants to leave."""
        if not self._seen and self._keys[0] not in data:
            return data, False
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    return bytes(passed), True
                continue
            passed += self._keys[: self._seen]
            self._seen = 0
            if byte == self._keys[0]:
                self._seen = 1
            else:
                passed.append(byte)
        return bytes(passed), False
