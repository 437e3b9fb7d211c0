"""``key=value`` texts: comma-separated fields, labels, environment variables and their files, filters."""

import os
import sys
from collections.abc import Iterable, Sequence


def csv_fields(text: str) -> list[str]:
    """The fields of one CSV record (quotes as in CSV)."""
    if '"' not in text:
        if not text:
            raise ValueError("EOF")
        return text.split(",")
    import csv

    try:
        return next(csv.reader([text], strict=True))
    except (csv.Error, StopIteration):
        raise ValueError(
            f'parse error on line 1, column {text.index(chr(34)) + 1}: bare " in non-quoted-field'
        ) from None


def to_map(pairs: Iterable[str]) -> dict[str, str]:
    """``["a=1", "b"]`` is ``{"a": "1", "b": ""}``, in the order of the keys."""
    return dict(sorted((key, value) for key, _, value in (pair.partition("=") for pair in pairs)))


def parse_label(text: str) -> str:
    """A label; its key must not be empty."""
    if not text.partition("=")[0]:
        raise (
            ValueError(f"invalid label '{text}': empty name")
            if text.startswith("=")
            else ValueError("invalid label '': empty name")
        )
    return text


def parse_env(text: str) -> str:
    """``NAME=value``, or ``NAME`` alone: taken from this process's environment."""
    name, separator, _ = text.partition("=")
    if not name:
        raise ValueError(f"invalid environment variable: {text}")
    if separator:
        return text
    return f"{name}={os.environ[name]}" if name in os.environ else text


def parse_pair(text: str) -> str:
    """``key=value`` (a bare key stands for an empty value)."""
    return text


def read_env_file(path: str) -> list[str]:
    """Lines of an env file: comments and blank lines skipped, bare names from the environment. Raises ValueError."""
    out = []
    for number, name, value in _lines(path):
        if value is not None:
            out.append(f"{name}={value}")
        elif name in os.environ:
            out.append(f"{name}={os.environ[name]}")
        elif not name:
            raise ValueError(f"no variable name on line {number} of {path}")
    return out


def read_label_file(path: str) -> list[str]:
    """Lines of a label file."""
    return [name if value is None else f"{name}={value}" for _, name, value in _lines(path)]


def _lines(path: str) -> list[tuple[int, str, str | None]]:
    try:
        with sys.stdin if path == "-" else open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as problem:
        raise ValueError(f"open {path}: {(problem.strerror or '').lower()}") from None
    except UnicodeDecodeError:
        raise ValueError(f"env file {path} contains invalid utf8 bytes") from None
    found: list[tuple[int, str, str | None]] = []
    for number, line in enumerate(text.splitlines(), 1):
        body = line.lstrip()
        if not body or body.startswith("#"):
            continue
        name, separator, value = body.partition("=")
        if " " in name.rstrip() or "\t" in name.rstrip() or (separator and name != name.rstrip()):
            raise ValueError(f"poorly formatted environment: variable '{name}' contains whitespaces")
        if separator and not name:
            raise ValueError(f"poorly formatted environment: no variable name on line '{line}'")
        found.append((number, name.strip(), value if separator else None))
    return found


def environment(files: Sequence[str], given: Sequence[str]) -> list[str]:
    """Variables of files, then those of flags."""
    return [variable for path in files for variable in read_env_file(path)] + list(given)


def parse_filter(text: str) -> tuple[str, str]:
    """One ``--filter``: (name, value)."""
    if not text:
        return "", ""
    name, separator, wanted = text.partition("=")
    if not separator:
        raise ValueError("bad format of filter (expected name=value)")
    return name.strip().lower(), wanted.strip()


def encode_filters(filters: Iterable[tuple[str, str]]) -> str | None:
    """The ``filters`` query parameter; None without filters."""
    collected: dict[str, dict[str, bool]] = {}
    for name, wanted in filters:
        if name:
            collected.setdefault(name, {})[wanted] = True
    if not collected:
        return None
    import json

    return json.dumps(
        {k: dict(sorted(v.items())) for k, v in sorted(collected.items())}, separators=(",", ":"), ensure_ascii=False
    )
