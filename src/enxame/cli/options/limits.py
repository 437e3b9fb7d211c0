"""Ulimits, capabilities, generic resources, restart policies, devices."""

import glob
import posixpath
from collections.abc import Iterable, Sequence
from typing import Any, Final

from enxame.cli.options.numbers import parse_int, parse_uint

Json = dict[str, Any]

_ULIMITS: Final = frozenset(
    [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ]
)
ALL: Final = "ALL"
RESET: Final = "RESET"


def parse_ulimit(text: str) -> Json:
    """``nofile=1024:2048``."""
    name, separator, values = text.partition("=")
    if not separator:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    soft_text, separator, hard_text = values.partition(":")
    try:
        soft = int(soft_text)
        hard = int(hard_text) if separator else soft
    except ValueError:
        bad = soft_text if not soft_text.lstrip("-").isdigit() else hard_text
        raise ValueError(f'strconv.ParseInt: parsing "{bad}": invalid syntax') from None
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {"Name": name, "Hard": hard, "Soft": soft}


def unique_ulimits(ulimits: Iterable[Json]) -> list[Json]:
    """The last of each name, sorted by name."""
    return [limit for _, limit in sorted({u["Name"]: u for u in ulimits}.items())]


def normal_capability(name: str) -> str:
    """Upper case with ``CAP_``; ALL and RESET stay."""
    upper = name.strip().upper()
    return upper if upper in {ALL, RESET} or upper.startswith("CAP_") else f"CAP_{upper}"


def capability_set(names: Iterable[str]) -> set[str]:
    """Normalised names."""
    return {normal_capability(name) for name in names}


def effective_capabilities(add: Sequence[str], drop: Sequence[str]) -> tuple[list[str], list[str]]:
    """What to add and to drop, sorted: ALL swallows the others, adding beats dropping."""
    adding, dropping = capability_set(add), capability_set(drop)
    if ALL in adding:
        return [ALL], sorted(dropping - adding) if ALL not in dropping else [ALL]
    if ALL in dropping:
        return sorted(adding), [ALL]
    return sorted(adding), sorted(dropping - adding)


def capability_list(names: set[str]) -> list[str]:
    """Sorted; ALL alone when it is there."""
    return [ALL] if ALL in names else sorted(names)


def parse_generic_resources(values: Iterable[str]) -> list[Json]:
    """``apples=3`` → discrete resources; named ones cannot be asked for."""
    out = []
    for text in values:
        for field in text.split(","):
            kind, separator, amount = field.partition("=")
            if not separator or not kind or not amount:
                raise ValueError(
                    f"Invalid generic resource specification: incorrect term {field}, "
                    "missing '=' or malformed expression"
                )
            try:
                number = parse_int(amount)
            except ValueError:
                raise ValueError(
                    "invalid generic-resource request `"
                    + field
                    + "`, Named Generic Resources is not supported for service create or update"
                ) from None
            if number < 0:
                raise ValueError(f"invalid generic-resource specification: {field}")
            out.append({"DiscreteResourceSpec": {"Kind": kind, "Value": number}})
    return out


def parse_restart_policy(text: str) -> Json:
    """``no``, ``always``, ``unless-stopped``, ``on-failure[:N]``."""
    name, separator, count = text.partition(":")
    if not text:
        return {"Name": "", "MaximumRetryCount": 0}
    if not name:
        raise ValueError("invalid restart policy format: no policy provided before colon")
    try:
        retries = parse_uint(count) if separator else 0
    except ValueError:
        raise ValueError("invalid restart policy format: maximum retry count must be an integer") from None
    return {"Name": name, "MaximumRetryCount": retries}


def _is_mode(text: str) -> bool:
    return bool(text) and set(text) <= set("rwm") and len(set(text)) == len(text)


def parse_device(text: str) -> list[Json]:
    """``/dev/a[:/dev/b][:rwm]``; a trailing ``*`` is expanded here."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise ValueError(f"bad format for path: {text}")
    source, target, mode = parts[0], "", "rwm"
    if len(parts) == 2:
        target, mode = ("", parts[1]) if _is_mode(parts[1]) else (parts[1], mode)
    elif len(parts) == 3:
        target, mode = parts[1], parts[2]
        if not _is_mode(mode):
            raise ValueError(f"bad mode specified: {mode}")
    if not posixpath.isabs(target or source):
        raise ValueError(f"{target or source} is not an absolute path")
    if source.endswith("*"):
        if target:
            raise ValueError(f"device with * suffix can't have dst: {text}")
        return [_device(path, path, mode) for path in sorted(glob.glob(source))]
    return [_device(source, target or source, mode)]


def _device(host: str, container: str, mode: str) -> Json:
    return {"PathOnHost": host, "PathInContainer": container, "CgroupPermissions": mode}
