"""Times and sizes in words, as docker prints them: "About a minute ago", "38.2MB", "1.5GiB"."""

import time
from typing import Final

from enxame.durations import duration_words

_DECIMAL: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def ago(seconds_since_epoch: float, now: float | None = None) -> str:
    """How long ago a moment was: "5 minutes ago"."""
    return duration_words((time.time() if now is None else now) - seconds_since_epoch) + " ago"


def _sized(size: float, base: float, units: tuple[str, ...], precision: int) -> str:
    index = 0
    while size >= base and index < len(units) - 1:
        size /= base
        index += 1
    return f"{size:.{precision}g}{units[index]}"


def size_words(size: float, precision: int = 4) -> str:
    """Decimal units: "38.2MB"."""
    return _sized(size, 1000.0, _DECIMAL, precision)


def binary_size_words(size: float) -> str:
    """Binary units: "1.5GiB"."""
    return _sized(size, 1024.0, _BINARY, 4)


def capital(word: str) -> str:
    """First letter of each word in upper case, the rest as it is (Go's strings.Title)."""
    out, previous = [], " "
    for letter in word:
        out.append(letter.upper() if previous.isspace() else letter)
        previous = letter
    return "".join(out)


def shorten(text: str, width: int) -> str:
    """At most ``width`` characters, the last an ellipsis when something was cut."""
    if len(text) <= width:
        return text
    return text[:1] if width <= 1 else text[: width - 1] + "…"


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """A sort key under which ``node2`` comes before ``node10``."""
    parts: list[tuple[int, int | str]] = []
    digits = word = ""
    for letter in text:
        if letter.isascii() and letter.isdigit():
            if word:
                parts.append((1, word))
                word = ""
            digits += letter
        else:
            if digits:
                parts.append((0, int(digits)))
                digits = ""
            word += letter
    if digits:
        parts.append((0, int(digits)))
    if word:
        parts.append((1, word))
    return parts
