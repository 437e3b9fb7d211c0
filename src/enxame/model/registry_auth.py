"""The ``X-Registry-Auth`` header: base64url of JSON, as clients send it and as services keep it."""

from __future__ import annotations

import base64
import binascii

from enxame.errors import EnxameError, InvalidArgument
from enxame.model.base import decode
from enxame.model.image import RegistryAuth


def decode_auth(text: str) -> RegistryAuth | None:
    """Credentials in a header's value; None for none and for empty ones.

    Raises:
        InvalidArgument: not base64url of a JSON object.
    """
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
