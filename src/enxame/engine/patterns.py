"""Regular expressions that users give, matched in linear time by RE2, whose syntax is Go's: no pattern can hold up the
daemon. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Final

from enxame.errors import InvalidArgument

__all__ = ["any_matches", "check_pattern"]

#: What has a meaning beyond itself. A text without any of it is looked for as it is.
_SPECIAL: Final = frozenset("\\.+*?()|[]{}^$")
#: Instructions of all patterns of a filter together: what a character costs. An ordinary pattern has ten to thirty.
_LARGEST: Final = 2000
#: Characters of all values of a filter together.
_LONGEST: Final = 1 << 16
#: Bytes for one pattern while it is looked at, so that what is too large is refused soon.
_TRIAL_MEMORY: Final = 1 << 18


@lru_cache(maxsize=2)  # a list asks for the same again with each row; a hostile one takes megabytes
def any_matches(values: frozenset[str]) -> Callable[[str], bool]:
    """A test for texts that are one of ``values``, or hold a match of one of them, as Docker's filters have it.
    A value that is no pattern only matches itself.

    Raises:
        InvalidArgument: together they are too large.
    """
    plain = [value for value in values if _SPECIAL.isdisjoint(value)]
    patterns, size = [], 0
    for value in values:
        if not _SPECIAL.isdisjoint(value) and (instructions := _instructions(value)):
            patterns.append(value)
            size += instructions
            if size > _LARGEST:
                raise InvalidArgument("invalid filter: the patterns are too large")
    if sum(map(len, values)) > _LONGEST:
        raise InvalidArgument("invalid filter: the patterns are too large")
    searches = [_search(part) for part in (plain, patterns) if part]
    return lambda text: text in values or any(search(text) is not None for search in searches)


def check_pattern(pattern: str) -> None:
    """Raises InvalidArgument when it is no pattern, or too large."""
    instructions = _instructions(pattern)
    if not instructions:
        raise InvalidArgument(f"error parsing regexp: `{pattern}`")
    if instructions > _LARGEST:
        raise InvalidArgument("error parsing regexp: expression is too large")


def _search(patterns: list[str]) -> Callable[[str], object]:
    import re2  # type: ignore[import-untyped]

    search: Callable[[str], object] = re2.compile("|".join(f"(?:{one})" for one in patterns), _options()).search
    return search


def _instructions(text: str) -> int:
    """How large a pattern is; 0 when it is none."""
    import re2

    try:
        size: int = re2.compile(text, _options(_TRIAL_MEMORY)).programsize
    except re2.error as error:
        return _LARGEST + 1 if "too large" in str(error) else 0
    except UnicodeEncodeError:
        return 0
    return size


@cache
def _options(memory: int = 8 << 20) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.never_capture = True  # only whether, never what: no slow second pass
    options.max_mem = memory
    return options
