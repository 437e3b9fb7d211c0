"""Plain answers: JSON, nothing."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from enxame import API_VERSION, __version__

#: What every answer says of the daemon.
COMMON_HEADERS: Final = {
    "Api-Version": API_VERSION,
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Enxame/{__version__} (linux)",
}

#: Maps are sorted by their keys, as Go writes them.
_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_JSON: Final = CIMultiDict({**COMMON_HEADERS, "Content-Type": "application/json"})


def json_response(value: Any, status: int = 200) -> web.Response:
    """``value`` (model objects, lists, dicts) as JSON, with the newline that Docker ends its answers with."""
    return web.Response(body=_encode(value) + b"\n", status=status, headers=_JSON)


def empty_response(status: int = 200) -> web.Response:
    """No body."""
    return web.Response(status=status, headers=COMMON_HEADERS)


def stream_response(content_type: str, status: int = 200) -> web.StreamResponse:
    """An answer whose body follows in pieces (chunked)."""
    response = web.StreamResponse(status=status, headers=COMMON_HEADERS)
    response.content_type = content_type
    response.enable_chunked_encoding()
    return response


class AlreadyAnswered(web.Response):
    """For handlers that have answered by themselves, or whose client is gone: writes nothing, ends the connection."""

    async def prepare(self, request: web.BaseRequest) -> None:  # noqa: ARG002
        """Nothing goes out."""
        self.force_close()

    async def write_eof(self, data: object = b"") -> None:
        """Nothing goes out."""
