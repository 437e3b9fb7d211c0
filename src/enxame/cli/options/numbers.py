"""Numbers in flags: booleans, integers, sizes in bytes, CPUs, durations. All raise ValueError with Go's words."""

import re
from typing import Final

_TRUE: Final = {"1", "t", "T", "TRUE", "true", "True"}
_FALSE: Final = {"0", "f", "F", "FALSE", "false", "False"}
_SIZE: Final = re.compile(r"^(\d+(?:\.\d+)*) ?([kKmMgGtTpP])?[iI]?[bB]?$")
_BINARY: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_DURATION: Final = re.compile(r"(\d*\.?\d*)(ns|us|µs|μs|ms|s|m|h)")
_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
SECOND: Final = 10**9


def parse_bool(text: str) -> bool:
    """``true``, ``1``, ``t``…"""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def _integer(text: str, function: str) -> int:
    digits = text.replace("_", "x")  # Go's base-0 parser takes underscores only inside prefixed numbers
    try:
        return int(digits, 0)
    except ValueError:
        try:
            return int(digits, 8) if digits.startswith("0") else int(digits)
        except ValueError:
            raise ValueError(f'strconv.{function}: parsing "{text}": invalid syntax') from None


def parse_int(text: str) -> int:
    """A signed 64-bit integer."""
    number = _integer(text, "ParseInt")
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return number


def parse_uint(text: str) -> int:
    """An unsigned 64-bit integer."""
    if text.startswith(("-", "+")):
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    number = _integer(text, "ParseUint")
    if number >= 1 << 64:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return number


def parse_port_number(text: str) -> int:
    """0 to 65535, decimal."""
    if not text.isascii() or not text.isdigit():
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    number = int(text[-6:])
    if text[:-6].strip("0") or number > 65535:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return number


def parse_float(text: str) -> float:
    """A decimal fraction."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f'strconv.ParseFloat: parsing "{text}": invalid syntax') from None


def parse_bytes(text: str) -> int:
    """Bytes with a binary suffix: ``512m`` is 512 MiB."""
    match = _SIZE.match(text)
    if not match or match[1].count(".") > 1:
        raise ValueError(f"invalid size: '{text}'")
    size = float(match[1]) * _BINARY[(match[2] or "").lower()]
    if size >= 1 << 63:
        raise ValueError(f"invalid size: '{text}'")
    return int(size)


def parse_swap(text: str) -> int:
    """Bytes, or -1 for "unlimited"."""
    return -1 if text == "-1" else parse_bytes(text)


def parse_cpus(text: str) -> int:
    """CPUs as billionths: ``1.5`` is 1 500 000 000."""
    from fractions import Fraction

    try:
        nano = Fraction(text) * SECOND
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if nano.denominator != 1:
        raise ValueError("value is too precise")
    return int(nano)


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration: ``1h2m``, ``300ms``, ``0``."""
    body = text.lstrip("+-") if len(text) - len(text.lstrip("+-")) <= 1 else ""
    if body == "0":
        return 0
    total, position = 0.0, 0
    exact = 0
    for match in _DURATION.finditer(body):
        if match.start() != position or match[1] in {"", "."}:
            break
        position = match.end()
        if "." in match[1]:
            total += float(match[1]) * _UNITS[match[2]]
        else:
            exact += int(match[1]) * _UNITS[match[2]]
    if not body or position != len(body):
        if body and re.fullmatch(r"\d+\.?\d*", body):
            raise ValueError(f'time: missing unit in duration "{text}"')
        raise ValueError(f'time: invalid duration "{text}"')
    nanoseconds = exact + int(total)
    return -nanoseconds if text.startswith("-") else nanoseconds


def parse_positive_duration(text: str) -> int:
    """A duration that is 0 or at least a millisecond. Health checks take no less."""
    nanoseconds = parse_duration(text)
    if nanoseconds < 0:
        raise ValueError("duration cannot be negative")
    return nanoseconds


def format_duration(nanoseconds: int) -> str:
    """A duration as Go prints it: ``1m30s``, ``2160h0m0s``, ``300ms``, ``0s``."""
    if nanoseconds == 0:
        return "0s"
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if left < SECOND:
        for unit, size in (("ms", 10**6), ("µs", 10**3), ("ns", 1)):
            if left >= size:
                return f"{sign}{_decimal(left, size)}{unit}"
    minutes, rest = divmod(left, 60 * SECOND)
    seconds = f"{_decimal(rest, SECOND)}s"
    if not minutes:
        return sign + seconds
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{f'{hours}h' if hours else ''}{minutes}m{seconds}"


def _decimal(number: int, unit: int) -> str:
    whole, fraction = divmod(number, unit)
    if not fraction:
        return str(whole)
    digits = str(fraction).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"
