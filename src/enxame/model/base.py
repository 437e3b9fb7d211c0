"""What all model objects share: naming, defaults, decoding.

One typed definition serves the HTTP API, the store and the wire. Python attributes are ``snake_case``; their JSON
names are the Engine API's ``PascalCase`` with its acronyms (``node_id`` → ``NodeID``). Where the API is irregular, the
field says so with ``field(name=…)``.

Objects are frozen: change them with :func:`msgspec.structs.replace`. Lists and dicts inside must not be mutated.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, dataclass_transform

import msgspec

from enxame.errors import InvalidArgument
from enxame.model.field_case import with_field_names

__all__ = ["ZERO_TIME", "Meta", "Model", "ObjectVersion", "always", "convert", "decode", "encode"]

_ACRONYMS = {
    word.lower(): word
    for word in (
        *(
            "API",
            "CA",
            "CAs",
            "CPU",
            "CPUs",
            "CSI",
            "DNS",
            "GID",
            "ID",
            "IDs",
            "IO",
            "IP",
            "IPs",
            "IPAM",
            "Ipc",
            "IPv4",
            "IPv6",
        ),
        *("OS", "PID", "TLS", "TTY", "UID", "URL", "URLs", "UTS", "VIP"),
    )
}

_MISSING: Final = object()

#: Go's zero time, which the API shows where a moment has not come yet.
ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)


def api_name(attribute: str) -> str:
    """``snake_case`` attribute to the API's ``PascalCase`` name."""
    return "".join(_ACRONYMS.get(word) or word[:1].upper() + word[1:] for word in attribute.rstrip("_").split("_"))


def always(
    *, default: Any = _MISSING, default_factory: Callable[[], Any] | None = None, name: str | None = None
) -> Any:
    """A field that is rendered even when it has its default (Go's fields without ``omitempty``)."""
    # omit_defaults knows the factories list, dict and set by identity; behind a lambda they are always rendered.
    factory = default_factory
    if factory is None:
        return msgspec.field(default_factory=lambda: default, name=name)
    return msgspec.field(default_factory=lambda: factory(), name=name)  # noqa: PLW0108


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field, always))
class _ModelType(msgspec.StructMeta):
    """Tells type checkers that every subclass is frozen and keyword-only, as msgspec makes it."""


class Model(
    msgspec.Struct, metaclass=_ModelType, frozen=True, kw_only=True, omit_defaults=True, rename=api_name, gc=False
):
    """Base of every object that the API, the store or the wire carries. Default values are left out of the JSON
    (Go's ``omitempty``) unless the field is declared with :func:`always`.

    What is frozen and made of values cannot be part of a cycle, so the garbage collector need not look at it: with
    thousands of tasks a full collection would hold the event loop for tens of milliseconds.
    """


class ObjectVersion(Model):
    """The optimistic lock of a stored object; ``index`` only grows."""

    index: int = always(default=0)


class Meta(Model):
    """The head of every stored object."""

    id: str = always(default="")
    version: ObjectVersion = msgspec.field(default_factory=ObjectVersion)
    created_at: datetime = always(default=ZERO_TIME)
    updated_at: datetime = always(default=ZERO_TIME)


T = TypeVar("T")

_decode_json: Callable[[bytes | bytearray], Any] = msgspec.json.Decoder().decode
encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


def decode(data: bytes | bytearray, as_type: type[T]) -> T:
    """JSON bytes of a client to a typed object.

    ``null`` counts as absent, wherever it stands: Go clients send it for empty maps, slices and pointers.
    Field names may be in any case, as Go reads them.
    Unknown fields are ignored (newer clients send them).

    Raises:
        InvalidArgument: the text is not JSON, or a value has the wrong type; says which and where.
    """
    try:
        raw = _decode_json(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"invalid JSON: {error}") from error
    if not isinstance(raw, dict) and issubclass(as_type, msgspec.Struct):
        raise InvalidArgument(f"invalid JSON: expected an object, got {type(raw).__name__}")
    return convert(raw, as_type)


def convert(raw: Any, as_type: type[T]) -> T:
    """Plain Python data (from JSON, YAML) to a typed object, with the rules of :func:`decode`."""
    try:
        return msgspec.convert(with_field_names(_without_nulls(raw), as_type), as_type)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"invalid JSON: {error}") from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value if item is not None]
    return value
