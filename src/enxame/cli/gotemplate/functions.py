"""The functions of templates: Go's own and docker's."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from enxame.cli.gotemplate.values import NO_VALUE, GoDuration, format_value, length, printf, truth


class FunctionError(Exception):
    """A function refused its arguments."""


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None or value is NO_VALUE:
            raise FunctionError("index of untyped nil")
        if isinstance(value, Mapping):
            value = value.get(key, NO_VALUE)
        elif isinstance(value, (list, tuple, str)):
            if isinstance(key, bool) or not isinstance(key, int):
                raise FunctionError(f"cannot index slice/array with type {type(key).__name__}")
            if not 0 <= key < len(value):
                raise FunctionError(f"index out of range: {key}")
            value = value[key]
        else:
            raise FunctionError(f"can't index item of type {type(value).__name__}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    low, high = (bounds[0] if bounds else 0), (bounds[1] if len(bounds) > 1 else len(value))
    if not 0 <= low <= high <= len(value):
        raise FunctionError(f"index out of range: {high}")
    return value[low:high]


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise FunctionError("missing argument for comparison")
    return any(first == other for other in others)


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(a: Any, b: Any) -> bool:
        if isinstance(a, str) != isinstance(b, str) or not isinstance(a, (int, float, str)):
            raise FunctionError("incompatible types for comparison")
        return test(a, b)

    return compare


def _json(value: Any) -> str:
    def default(item: Any) -> Any:
        return dict(item) if isinstance(item, Mapping) else None if item is NO_VALUE else str(item)

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=default)
    if isinstance(value, Mapping) and not isinstance(value, dict):
        # A row of a table: Go marshals it with HTML escapes.
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return text


def _length(value: Any) -> int:
    if value is NO_VALUE:
        return 0
    size = length(value)
    if size is None:
        raise FunctionError(f"len of type {type(value).__name__}")
    return size


def _print(*values: Any) -> str:
    out: list[str] = []
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            out.append(" ")
        out.append(format_value(value))
    return "".join(out)


def _title(text: Any) -> str:
    from enxame.cli.humanise import capital

    return capital(_text(text))


def _text(value: Any) -> str:
    if value is NO_VALUE or value is None:
        return ""
    return value if isinstance(value, str) else format_value(value)


def _join(values: Any, separator: str = "") -> str:
    if values is None or values is NO_VALUE:
        return ""
    if not isinstance(values, (list, tuple)):
        raise FunctionError("join wants a list of strings")
    return separator.join(_text(v) for v in values)


def _truncate(text: Any, width: int) -> str:
    return _text(text)[:width]


def _pad(text: Any, before: int, after: int) -> str:
    body = _text(text)
    return body if not body else " " * before + body + " " * after


def _table(rows: Any) -> str:
    return format_value(rows)


def _html(*values: Any) -> str:
    import html

    return html.escape(_print(*values)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


def _urlquery(*values: Any) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_print(*values))


#: ``and``, ``or`` are not here: they decide which of their arguments are evaluated at all.
FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "and": lambda *v: v[-1],
    "or": lambda *v: v[-1],
    "not": lambda v: not truth(v),
    "len": _length,
    "index": _index,
    "slice": _slice,
    "eq": _equal,
    "ne": lambda a, b: a != b,
    "lt": _compare(lambda a, b: a < b),
    "le": _compare(lambda a, b: a <= b),
    "gt": _compare(lambda a, b: a > b),
    "ge": _compare(lambda a, b: a >= b),
    "print": _print,
    "println": lambda *v: " ".join(format_value(x) for x in v) + "\n",
    "printf": printf,
    "html": _html,
    "js": lambda *v: _json(_print(*v))[1:-1],
    "urlquery": _urlquery,
    "json": _json,
    "split": lambda text, separator: _text(text).split(separator),
    "join": _join,
    "title": _title,
    "lower": lambda v: _text(v).lower(),
    "upper": lambda v: _text(v).upper(),
    "pad": _pad,
    "truncate": _truncate,
}


def _same(value: Any, *_: Any) -> Any:
    return value


#: Over a table's headers these change nothing.
HEADER_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    **FUNCTIONS,
    "json": _same,
    "title": _same,
    "lower": _same,
    "upper": _same,
    "truncate": _same,
    "split": _same,
    "join": _same,
}

__all__ = ["FUNCTIONS", "HEADER_FUNCTIONS", "FunctionError", "GoDuration"]
