"""What secrets and configs have in common: the rules for names and contents, for changing and removing them."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final

from enxame.errors import InvalidArgument, rpc_error
from enxame.model.service import Service

__all__ = ["MAX_CONFIG_BYTES", "MAX_SECRET_BYTES", "check_name", "check_size", "check_unused", "same_data"]

#: Contents must be smaller than these.
MAX_SECRET_BYTES: Final = 500 * 1024
MAX_CONFIG_BYTES: Final = 1000 * 1024

_NAME: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,62}[a-zA-Z0-9])?", re.ASCII)


def check_name(name: str) -> None:
    """Raises InvalidArgument unless the name keeps to the rule."""
    if not name:
        raise rpc_error("InvalidArgument", "name must be provided")
    if not _NAME.fullmatch(name):
        raise rpc_error(
            "InvalidArgument",
            "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be "
            "[a-zA-Z0-9]",
        )


def check_size(data: str, noun: str, limit: int) -> None:
    """Raises InvalidArgument unless ``data`` is base64 of 1 to ``limit`` - 1 bytes."""
    if not 0 < len(_decoded(data)) < limit:
        raise rpc_error("InvalidArgument", f"{noun} data must be larger than 0 and less than {limit} bytes")


def same_data(given: str, stored: str) -> bool:
    """Whether an update leaves the contents alone: none given, or the same bytes."""
    return not given or _decoded(given) == _decoded(stored)


def check_unused(noun: str, name: str, services: Sequence[Service]) -> None:
    """Raises InvalidArgument when services use the object."""
    if services:
        word = "service" if len(services) == 1 else "services"
        names = ", ".join(service.spec.name for service in services)
        raise rpc_error("InvalidArgument", f"{noun} '{name}' is in use by the following {word}: {names}")


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument(f"illegal base64 data: {error}") from error
