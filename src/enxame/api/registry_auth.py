"""The ``X-Registry-Auth`` and ``X-Registry-Config`` headers: base64url of JSON."""

from __future__ import annotations

import base64
import binascii

from enxame.api.call import Call
from enxame.errors import EnxameError, InvalidArgument
from enxame.model.base import decode
from enxame.model.image import RegistryAuth


def registry_auth(call: Call) -> RegistryAuth | None:
    """Credentials that the client sent along; None when it sent none or empty ones.

    Raises:
        InvalidArgument: the header is there but is not base64url of a JSON object.
    """
    return decode_auth(call.request.headers.get("X-Registry-Auth", ""))


def decode_auth(text: str) -> RegistryAuth | None:
    """The header's value as credentials."""
    if not text:
        return None
    try:
        # Both alphabets and missing padding are seen in the wild.
        raw = base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument(f"invalid X-Registry-Auth header: {error}") from error
    if not raw.strip():
        return None
    try:
        auth = decode(raw, RegistryAuth)
    except EnxameError as error:
        raise InvalidArgument(f"invalid X-Registry-Auth header: {error.message}") from error
    return None if auth == RegistryAuth() else auth
