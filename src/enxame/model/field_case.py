"""Field names in any case: Go reads JSON so, and clients rely on it (docker-py sends ``replicated`` as a mode)."""

from collections.abc import Callable
from functools import cache
from typing import Any

from msgspec import inspect

__all__ = ["with_field_names"]

Walk = Callable[[Any], Any]


def with_field_names(raw: Any, as_type: Any) -> Any:
    """*raw* with the keys of its objects spelt as *as_type* spells them. Keys of free maps stay as they are."""
    walk = _walk_of_type(as_type)
    return raw if walk is None else walk(raw)


@cache
def _walk_of_type(as_type: Any) -> Walk | None:
    return _walk(inspect.type_info(as_type))


def _walk(info: inspect.Type) -> Walk | None:
    match info:
        case inspect.StructType(cls=cls):
            return lambda value: _struct(cls, value) if isinstance(value, dict) else value
        case inspect.ListType(item_type=item):
            return _list_walk(_walk(item))
        case inspect.DictType(value_type=item):
            return _dict_walk(_walk(item))
        case inspect.UnionType(types=types):
            return _union_walk([walk for walk in map(_walk, types) if walk is not None])
        case _:
            return None


def _list_walk(walk: Walk | None) -> Walk | None:
    if walk is None:
        return None
    return lambda value: [walk(item) for item in value] if isinstance(value, list) else value


def _dict_walk(walk: Walk | None) -> Walk | None:
    if walk is None:
        return None
    return lambda value: {key: walk(item) for key, item in value.items()} if isinstance(value, dict) else value


def _union_walk(walks: list[Walk]) -> Walk | None:
    # Each leaves what is not of its kind alone; no union here has two kinds of object.
    return walks[0] if walks else None


@cache
def _fields_of(cls: type) -> tuple[dict[str, str], dict[str, Walk]]:
    """The spelling by lower-case name, and the walks of fields that hold objects; cached by class."""
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    walks = {field.encode_name: walk for field in info.fields if (walk := _walk(field.type)) is not None}
    return {field.encode_name.lower(): field.encode_name for field in info.fields}, walks


def _struct(cls: type, value: dict[str, Any]) -> dict[str, Any]:
    spelling, walks = _fields_of(cls)
    made: dict[str, Any] = {}
    for key, item in value.items():
        name = spelling.get(key.lower(), key)
        if name != key and name in value:  # the exact name wins
            continue
        walk = walks.get(name)
        made[name] = item if walk is None else walk(item)
    return made
