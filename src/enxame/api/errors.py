"""How an error reaches a client: a status and ``{"message": …}``, never a traceback."""

from __future__ import annotations

import logging
import secrets
from typing import Final

from aiohttp import web

from enxame.api.responses import empty_response, json_response
from enxame.errors import EnxameError, NotModified

#: Bytes that a JSON body may have: room for a config of 1000 KiB in base64 and its wrapping, twice.
MAX_BODY: Final = 4 * 1024 * 1024

_log = logging.getLogger(__name__)


def error_response(error: Exception, method: str, path: str) -> web.StreamResponse:
    """The answer to a request whose handler raised ``error``.

    What we did not foresee is logged under a short id, which is all that the client learns besides the words
    ``internal error``.
    """
    if isinstance(error, NotModified):
        return empty_response(304)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return message_response(413, f"request body too large: more than {MAX_BODY} bytes")
    if isinstance(error, EnxameError):
        if error.status >= 500 and error.status not in (501, 503):
            _log.warning("%s %s: %s", method, path, error.message)
        return message_response(error.status, error.message)
    if isinstance(error, TimeoutError):
        _log.warning("%s %s: timed out", method, path, exc_info=error)
        return message_response(500, "context deadline exceeded")
    incident = secrets.token_hex(4)
    _log.error("%s %s: internal error %s", method, path, incident, exc_info=error)
    return message_response(500, f"internal error {incident}: see the daemon's log")


def message_response(status: int, message: str) -> web.Response:
    """``{"message": …}`` with a status."""
    return json_response({"message": message}, status=status)


def message_of(error: Exception, what: str) -> str:
    """The text for an error that strikes when the headers are gone already, to be sent inside the stream."""
    if isinstance(error, EnxameError):
        return error.message
    if isinstance(error, TimeoutError):
        return "context deadline exceeded"
    incident = secrets.token_hex(4)
    _log.error("%s: internal error %s", what, incident, exc_info=error)
    return f"internal error {incident}: see the daemon's log"
