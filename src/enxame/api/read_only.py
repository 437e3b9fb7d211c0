"""Listeners for tools that only look: what they are served, and what is taken out of the answers. Pure.

As with a proxy in front of the socket: what routes declare with ``looks`` is served to ``GET`` and ``HEAD`` (logs,
events and statistics among them), everything else is refused. Join tokens, configs' data and the values of environment
variables do not leave the daemon there; labels, commands and options do.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from enxame.api.routing import Operation
from enxame.model.base import encode

#: Keys that are left out, whatever they hold.
_LEFT_OUT: Final = frozenset({"JoinTokens", "SigningCAKey", "UnlockKey"})


def refusal(operation: Operation | None, method: str, path: str) -> str | None:
    """Why a request is not served here; None when it is (or when there is no such page anyway)."""
    if method not in ("GET", "HEAD"):
        return f"this socket is read-only: {method} {path} is not allowed"
    if operation is not None and not operation.looks:
        return f"this socket is read-only: {method} {path} shows more than it may"
    return None


def without_secrets(body: bytes) -> bytes:
    """A JSON answer with its secrets taken out; other bytes as they are."""
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body
    return encode(_shown(value)) + b"\n"


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _field(key, item) for key, item in value.items() if not _is_hidden(key, item)}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return value


def _is_hidden(key: str, value: Any) -> bool:
    # A driver's Data is a table; text is what a config holds.
    return key in _LEFT_OUT or (key == "Data" and isinstance(value, str))


def _field(key: str, value: Any) -> Any:
    if key == "Env" and isinstance(value, list):
        return [_name_of(item) for item in value]
    return _shown(value)


def _name_of(variable: Any) -> Any:
    return variable.partition("=")[0] + "=" if isinstance(variable, str) and "=" in variable else variable
