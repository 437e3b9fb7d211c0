"""The ``X-Registry-Auth`` and ``X-Registry-Config`` headers: base64url of JSON."""

from __future__ import annotations

from enxame.api.call import Call
from enxame.model.image import RegistryAuth
from enxame.model.registry_auth import decode_auth


def registry_auth(call: Call) -> RegistryAuth | None:
    """Credentials that the client sent along; None when it sent none or empty ones.

    Raises:
        InvalidArgument: the header is there but is not base64url of a JSON object.
    """
    return decode_auth(call.request.headers.get("X-Registry-Auth", ""))
