"""From an HTTP request to its handler: version, route, errors."""

from __future__ import annotations

from typing import Final, NamedTuple

from aiohttp import web

from enxame import API_VERSION, MIN_API_VERSION
from enxame.api import read_only
from enxame.api.call import Call
from enxame.api.context import ApiContext
from enxame.api.errors import error_response, message_response
from enxame.api.forwarding import Forwarder
from enxame.api.responses import AlreadyAnswered
from enxame.api.routing import Operation, Routes


def parse_version(text: str) -> tuple[int, int] | None:
    """``1.41`` as a pair; None when it is no version."""
    major, dot, minor = text.partition(".")
    if not (dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()) or len(text) > 12:
        return None
    return int(major), int(minor)


_NEWEST: Final = parse_version(API_VERSION) or (1, 0)
_OLDEST: Final = parse_version(MIN_API_VERSION) or (1, 0)


class Target(NamedTuple):
    """What a request line means. ``path`` has no version in front; ``found`` is the operation and the path's name."""

    version: tuple[int, int]
    path: str
    raw_query: str
    found: tuple[Operation, str] | None


def locate(routes: Routes, method: str, target: str) -> Target | web.Response:
    """Read a request line; a refusal when its version is none that is served."""
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
    return Target(version, path, raw_query, routes.find(method, path))


class Dispatcher:
    """Answers every request; the callable that aiohttp's server wants. ``looks_only``: for a read-only listener."""

    def __init__(self, api: ApiContext, routes: Routes, forwarder: Forwarder, *, looks_only: bool = False) -> None:
        self._api = api
        self._routes = routes
        self._forwarder = forwarder
        self._looks_only = looks_only

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Find the handler, call it, turn errors into answers."""
        method, line = request.method, request.raw_path
        if line[:1] != "/":
            line = request.rel_url.raw_path_qs
        target = locate(self._routes, method, line)
        if isinstance(target, web.Response):
            return target
        version, path, raw_query, found = target
        if self._looks_only and (refused := read_only.refusal(found and found[0], method, path)):
            return message_response(403, refused)
        if found is None:
            return message_response(404, "page not found")
        operation, name = found
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        call = Call(self._api, self._forwarder, request, name, target=line, raw_query=raw_query, version=version)
        call.looks_only = self._looks_only
        try:
            if operation.leader and (operation.leader is True or await operation.leader(call)):
                response = await self._forwarder.answer(call, operation)
            else:
                response = await operation.handler(call)
            if self._looks_only:
                hide_secrets(response)
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


def hide_secrets(response: web.StreamResponse) -> None:
    """For those who only look."""
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
