"""How values of templates are tested, counted and printed: Go's ``%v`` over decoded JSON."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from enxame.cli.options.numbers import format_duration


class _NoValue:
    """What a key that is not there stands for: empty in conditions, an error where it is to be printed."""

    def __repr__(self) -> str:
        return "<no value>"

    def __bool__(self) -> bool:
        return False


NO_VALUE: Final = _NoValue()


class GoDuration(int):
    """Nanoseconds that print as ``5s``."""

    def __str__(self) -> str:
        return format_duration(int(self))


def truth(value: Any) -> bool:
    """Go templates' idea of "not empty"."""
    if isinstance(value, Mapping):
        return bool(list(value))
    return bool(value)


def length(value: Any) -> int | None:
    """Number of elements (bytes of a text); None when the value has no length."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, (Mapping, list, tuple)):
        return len(list(value))
    return None


def format_value(value: Any) -> str:
    """``%v``."""
    if value is None:
        return "<nil>"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return f"{value}"
    if isinstance(value, float):
        return format_float(value)
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{k}:{format_value(value[k])}" for k in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(format_value(v) for v in value) + "]"
    return str(value)


def format_float(number: float) -> str:
    """``%v`` of a float64: shortest form, exponents from 1e+21 on and below 1e-04."""
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    if number == int(number) and abs(number) < 1e21:
        return str(int(number))
    text = repr(number)
    return re.sub(r"e([+-])(\d)$", r"e\g<1>0\2", text)


_VERB: Final = re.compile(r"%([-+# 0]*)(\d+|\*)?(?:\.(\d+|\*))?([a-zA-Z%])")


def printf(template: str, *values: Any) -> str:
    """Go's Printf for the verbs v, s, q, d, x, X, o, b, c, f, e, g, t, T, %."""
    pending = list(values)

    def take() -> Any:
        return pending.pop(0) if pending else NO_VALUE

    def convert(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        if width == "*":
            width = str(take())
        if precision == "*":
            precision = str(take())
        if not pending:
            return f"%!{verb}(MISSING)"
        return _pad(_verb(verb, take(), flags, precision), flags, width)

    text = _VERB.sub(convert, template)
    if pending:
        text += "%!(EXTRA " + ", ".join(f"{type(v).__name__}={format_value(v)}" for v in pending) + ")"
    return text


def _pad(text: str, flags: str, width: str | None) -> str:
    if not width:
        return text
    if "-" in flags:
        return text.ljust(int(width))
    return text.zfill(int(width)) if "0" in flags else text.rjust(int(width))


def _verb(verb: str, value: Any, flags: str, precision: str | None) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    plus = "+" if "+" in flags else ""
    if verb in "vs":
        text = format_value(value)
        return text[: int(precision)] if precision and verb == "s" else text
    if verb == "q":
        import json

        return json.dumps(format_value(value), ensure_ascii=False)
    if verb == "t" and isinstance(value, bool):
        return format_value(value)
    if verb == "T":
        return type(value).__name__
    if verb in "feEgG" and number:
        return format(float(value), f"{plus}.{precision or 6}{verb}")
    if verb in "doxXbc" and number and float(value) == int(value):
        return format(int(value), f"{plus}{verb}" if verb != "c" else "c")
    if verb in "xX" and isinstance(value, str):
        return value.encode().hex() if verb == "x" else value.encode().hex().upper()
    return f"%!{verb}({type(value).__name__}={format_value(value)})"
