"""The Engine HTTP API over one socket: JSON calls, streams, and hijacked connections.

Calls go out under the newest API version at once, without asking ``/_ping`` first; a daemon that only knows older
versions says which, and the call is repeated under that one.
"""

import http.client
import json
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol, Self
from urllib.parse import quote, urlencode

from enxame import API_VERSION, MIN_API_VERSION, __version__
from enxame.cli.endpoint import Endpoint
from enxame.cli.errors import CliError, DaemonError, Unreachable

Query = Mapping[str, str | int | bool | list[str] | None]
Body = bytes | Iterable[bytes] | None

_TOO_NEW: Final = re.compile(r"client version \S+ is too new\. Maximum supported API version is (\d+\.\d+)")
_CHUNK: Final = 1 << 16


class Readable(Protocol):
    """What a byte stream from the daemon offers."""

    def read1(self, size: int = -1, /) -> bytes:
        """At least one byte; empty at the end."""
        ...


class _Connection(http.client.HTTPConnection):
    """http.client's connection over the endpoint's own kind of socket."""

    def __init__(self, endpoint: Endpoint, timeout: float | None) -> None:
        super().__init__(endpoint.host_header, timeout=timeout)
        self._endpoint = endpoint
        self._deadline = timeout

    def connect(self) -> None:
        self.sock = self._endpoint.connect(self._deadline)


def wants_more(problem: OSError) -> bool:
    """Whether a TLS connection that does not block only has to wait. (The module ssl is loaded when it is needed.)"""
    return type(problem).__name__ in {"SSLWantReadError", "SSLWantWriteError"}


class Hijacked:
    """A raw two-way connection after an HTTP upgrade."""

    def __init__(self, sock: socket.socket, response: http.client.HTTPResponse) -> None:
        self.sock = sock
        self._response = response
        self.content_type = response.getheader("Content-Type", "")

    def early_bytes(self) -> bytes:
        """What came together with the answer's headers. The socket must not block."""
        reader = self._response.fp
        try:
            waiting = len(reader.peek(1))
        except OSError as problem:
            if not wants_more(problem):
                raise
            waiting = 0
        return reader.read1(waiting) if waiting else b""

    def half_close(self) -> None:
        """Tells the other side that no more input comes."""
        try:
            if hasattr(self.sock, "unwrap"):
                # Sends close_notify; not waiting for the peer's, output can still be read.
                self.sock.setblocking(False)
                self.sock.unwrap()
            else:
                self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        """Closes both directions."""
        self._response.close()
        self.sock.close()


class Stream:
    """An answer that comes bit by bit; a context manager."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self.headers = response.headers
        self.content_type = response.getheader("Content-Type", "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    def read1(self, size: int = -1, /) -> bytes:
        """What is there, at least one byte; empty at the end. Raises Unreachable when the connection breaks."""
        try:
            return self._response.read1(size if size > 0 else _CHUNK)
        except (http.client.IncompleteRead, ConnectionError):
            raise Unreachable("error during connect: the connection to the daemon was closed unexpectedly") from None

    def chunks(self) -> Iterator[bytes]:
        """All bytes in pieces."""
        while data := self.read1():
            yield data

    def messages(self) -> Iterator[Any]:
        """A sequence of JSON values, one after the other."""
        decoder, text = json.JSONDecoder(), ""
        for data in self.chunks():
            text = (text + data.decode("utf-8", "replace")).lstrip()
            while text:
                try:
                    value, end = decoder.raw_decode(text)
                except json.JSONDecodeError:
                    break
                yield value
                text = text[end:].lstrip()


class Client:
    """Calls the daemon at ``endpoint``; keeps one connection alive between plain calls.

    ``timeout`` bounds every single wait of a plain call (None: as long as it takes).
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float | None = None) -> None:
        self.endpoint = endpoint
        self._timeout = timeout
        self._fixed_version = os.environ.get("DOCKER_API_VERSION", "")
        self.version = self._fixed_version or API_VERSION
        self._connection: http.client.HTTPConnection | None = None

    # -- plain calls --------------------------------------------------------------------------------------------------

    def get(self, path: str, query: Query | None = None) -> Any:
        """The decoded JSON of a GET."""
        return self.call("GET", path, query)

    def post(
        self, path: str, body: Any = None, query: Query | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The decoded JSON of a POST of a JSON body (none: an empty body)."""
        return self.call("POST", path, query, body, headers)

    def delete(self, path: str, query: Query | None = None) -> Any:
        """The decoded JSON of a DELETE."""
        return self.call("DELETE", path, query)

    def call(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """One request with a JSON body and a JSON answer (text when it is none). Raises DaemonError, Unreachable."""
        raw = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        response = self._request(method, path, query, raw, _headers(raw, headers))
        return _decode(response, _read(response))

    # -- streams ------------------------------------------------------------------------------------------------------

    def stream(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Stream:
        """An answer to be read as it comes. ``body`` is JSON, bytes, or an iterable of bytes (sent in chunks)."""
        raw, extra = _raw_body(body, headers)
        if raw is not None and not isinstance(raw, bytes):
            self.negotiate()
        connection = self._open()
        try:
            response = self._exchange(connection, method, path, query, raw, extra)
        except BaseException:
            connection.close()
            raise
        return Stream(connection, response)

    def hijack(self, path: str, query: Query | None = None, body: Any = None) -> Hijacked:
        """Upgrades a POST to a raw connection. Raises DaemonError when the daemon refuses."""
        raw, extra = _raw_body(body, {"Connection": "Upgrade", "Upgrade": "tcp"})
        connection = self._open()
        try:
            connection.connect()
            sock = connection.sock
            response = self._exchange(connection, "POST", path, query, raw, extra, upgraded=True)
        except OSError as problem:
            connection.close()
            raise self._unreachable(problem) from None
        except BaseException:
            connection.close()
            raise
        return Hijacked(sock, response)

    def negotiate(self) -> str:
        """The API version both sides speak, asked of the daemon (needed before a body that cannot be sent twice)."""
        if not self._fixed_version:
            response = self._request("HEAD", "/_ping", None, None, {}, versioned=False)
            response.read()
            self._settle(response.getheader("Api-Version", ""))
        return self.version

    def close(self) -> None:
        """Closes the kept connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- inside -------------------------------------------------------------------------------------------------------

    def _settle(self, theirs: str) -> bool:
        """Takes the daemon's version when it is older; True when that changed something."""
        if not theirs or _number(theirs) >= _number(self.version):
            return False
        if _number(theirs) < _number(MIN_API_VERSION):
            raise CliError(
                f"client is newer than server (client API version: {self.version}, server API version: {theirs})"
            )
        self.version = theirs
        return True

    def _open(self) -> http.client.HTTPConnection:
        return _Connection(self.endpoint, self._timeout)

    def _request(
        self,
        method: str,
        path: str,
        query: Query | None,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        versioned: bool = True,
    ) -> http.client.HTTPResponse:
        reused = self._connection is not None
        connection = self._connection = self._connection or self._open()
        try:
            return self._exchange(connection, method, path, query, body, headers, versioned=versioned)
        except Unreachable:
            # A kept connection may have been closed by the other side meanwhile: once more on a fresh one.
            self.close()
            if not reused or method not in {"GET", "HEAD"}:
                raise
            return self._request(method, path, query, body, headers, versioned=versioned)

    def _exchange(  # noqa: PLR0917 - a request's own parts
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        query: Query | None,
        body: Body,
        headers: Mapping[str, str],
        *,
        versioned: bool = True,
        upgraded: bool = False,
    ) -> http.client.HTTPResponse:
        _check_names(path)
        url = f"/v{self.version}{path}" if versioned else path
        text = encode_query(query)
        separator = "&" if "?" in path else "?"
        try:
            chunked = body is not None and not isinstance(body, bytes)
            connection.request(
                method,
                f"{url}{separator}{text}" if text else url,
                body=body,
                headers={"User-Agent": f"Enxame-Client/{__version__}", **headers},
                encode_chunked=chunked,
            )
        except (BrokenPipeError, ConnectionResetError):
            pass  # The daemon may have answered (an error) before it read the whole body.
        except OSError as problem:
            raise self._unreachable(problem) from None
        try:
            response = connection.getresponse()
        except (http.client.HTTPException, OSError) as problem:
            connection.close()
            raise self._unreachable(problem) from None
        if response.status < 400 or (upgraded and response.status == 101):
            return response
        detail = _message(response, _read(response))
        newest = _TOO_NEW.search(detail)
        if newest and not self._fixed_version and self._settle(newest[1]) and (body is None or isinstance(body, bytes)):
            return self._exchange(
                connection, method, path, query, body, headers, versioned=versioned, upgraded=upgraded
            )
        raise DaemonError(response.status, detail)

    def _unreachable(self, problem: Exception) -> Unreachable:
        where = self.endpoint.url
        if isinstance(problem, PermissionError):
            return Unreachable(
                f"permission denied while trying to connect to the Enxame daemon socket at {where}: "
                "connect: permission denied"
            )
        if isinstance(problem, TimeoutError):
            return Unreachable(f"error during connect: the daemon at {where} did not answer in time")
        if type(problem).__module__ == "ssl":
            return Unreachable(f"error during connect: TLS with {where}: {problem}")
        return Unreachable(f"Cannot connect to the Enxame daemon at {where}. Is the enxame daemon running?")


def quoted(name: str) -> str:
    """A name as one path segment (slashes of image names stay)."""
    return quote(name, safe="/:@")


def check_name(kind: str, name: str) -> None:
    """Raises CliError for an empty one."""
    if not name:
        raise CliError(f"invalid {kind} name or ID: value is empty")


def _check_names(path: str) -> None:
    """An empty name would ask for something else: ``/networks/``. Raises CliError."""
    segments = path.partition("?")[0].split("/")[1:]
    if "" in segments[1:]:
        check_name(segments[0].removesuffix("s"), "")


def encode_query(query: Query | None) -> str:
    """Sorted, as Go encodes it: None and False are left out, True is ``1``, lists come once an entry."""
    if not query:
        return ""
    pairs = [
        (key, value if isinstance(value, list) else "1" if value is True else str(value))
        for key, value in sorted(query.items())
        if value is not None and value is not False
    ]
    return urlencode(pairs, doseq=True)


def _headers(raw: bytes | None, more: Mapping[str, str] | None) -> dict[str, str]:
    headers = {} if raw is None else {"Content-Type": "application/json"}
    return {**headers, **(more or {})}


def _raw_body(body: Any, headers: Mapping[str, str] | None) -> tuple[Body, dict[str, str]]:
    if body is None:
        return None, dict(headers or {})
    if isinstance(body, (dict, list)):
        raw = json.dumps(body, ensure_ascii=False).encode()
        return raw, _headers(raw, headers)
    return body, {"Content-Type": "application/x-tar", **(headers or {})}


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read()
    except (http.client.HTTPException, OSError):
        raise Unreachable("error during connect: the connection to the daemon was closed unexpectedly") from None


def _decode(response: http.client.HTTPResponse, data: bytes) -> Any:
    if not data.strip():
        return None
    if "json" in response.getheader("Content-Type", "json"):
        try:
            return json.loads(data, parse_float=_fraction)
        except ValueError:
            raise CliError(f"invalid answer from the daemon: {data[:80].decode('utf-8', 'replace')}") from None
    return data.decode("utf-8", "replace")


def _fraction(text: str) -> float:
    """Whole numbers without a fraction, as Go writes them."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < 1 << 53 else number


def _message(response: http.client.HTTPResponse, data: bytes) -> str:
    try:
        value = json.loads(data)
        return str(value["message"]).strip()
    except (ValueError, KeyError, TypeError):
        text = data.decode("utf-8", "replace").strip()
        return text or f"{response.status} {response.reason}"


def _number(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    try:
        return int(major), int(minor or 0)
    except ValueError:
        raise CliError(f"invalid API version: {version}") from None
