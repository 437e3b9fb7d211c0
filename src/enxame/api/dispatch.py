"""From an HTTP request to its handler: version, route, errors."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from enxame import API_VERSION, MIN_API_VERSION
from enxame.api import read_only
from enxame.api.call import Call
from enxame.api.context import ApiContext
from enxame.api.errors import error_response, message_response
from enxame.api.responses import AlreadyAnswered
from enxame.api.routing import Routes


def parse_version(text: str) -> tuple[int, int] | None:
    """``1.41`` as a pair; None when it is no version."""
    major, dot, minor = text.partition(".")
    if not (dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()) or len(text) > 12:
        return None
    return int(major), int(minor)


_NEWEST: Final = parse_version(API_VERSION) or (1, 0)
_OLDEST: Final = parse_version(MIN_API_VERSION) or (1, 0)


class Dispatcher:
    """Answers every request; the callable that aiohttp's server wants. ``looks_only``: for a read-only listener."""

    def __init__(self, api: ApiContext, routes: Routes, *, looks_only: bool = False) -> None:
        self._api = api
        self._routes = routes
        self._looks_only = looks_only

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Find the handler, call it, turn errors into answers."""
        method = request.method
        target = request.raw_path
        if target[:1] != "/":
            target = request.rel_url.raw_path_qs
        path, _, raw_query = target.partition("?")
        version = _NEWEST
        if path[:2] == "/v" and path[2:3].isdigit():
            prefix, slash, rest = path[2:].partition("/")
            asked = parse_version(prefix)
            if asked is None or not slash:
                return message_response(404, "page not found")
            refusal = refuse_version(asked, prefix)
            if refusal is not None:
                return message_response(400, refusal)
            version, path = asked, "/" + rest
        found = self._routes.find(method, path)
        if self._looks_only and (refused := read_only.refusal(found and found[0], method, path)):
            return message_response(403, refused)
        if found is None:
            return message_response(404, "page not found")
        operation, name = found
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        try:
            response = await operation.handler(Call(self._api, request, name, raw_query, version))
            if self._looks_only:
                _hide_secrets(response)
            return response
        except Exception as error:  # noqa: BLE001
            transport = request.transport
            if transport is None or transport.is_closing():
                return AlreadyAnswered()
            answer = error_response(error, method, path)
            if request.writer.output_size > 0:
                # The headers are out: all that can still be told is that the answer is not whole.
                transport.close()
                return AlreadyAnswered()
            return answer


def _hide_secrets(response: web.StreamResponse) -> None:
    if isinstance(response, web.Response) and isinstance(response.body, bytes) and not response.prepared:
        response.body = read_only.without_secrets(response.body)


def refuse_version(asked: tuple[int, int], text: str) -> str | None:
    """Docker's words for a version out of range; None for one that is served."""
    if asked < _OLDEST:
        return (
            f"client version {text} is too old. Minimum supported API version is {MIN_API_VERSION}, "
            "please upgrade your client to a newer version"
        )
    if asked > _NEWEST:
        return f"client version {text} is too new. Maximum supported API version is {API_VERSION}"
    return None
