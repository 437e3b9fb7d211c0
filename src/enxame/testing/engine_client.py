"""A small client of any engine's HTTP API over a unix socket, for tests and measurements."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import urlencode


class ApiError(Exception):
    """The engine's answer was an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except BaseException:
            self.sock.close()
            raise


class EngineClient:
    """Keeps one connection. Calls return decoded JSON and raise ApiError for a status of 400 and above."""

    def __init__(self, path: str, *, timeout: float = 60, version: str = "v1.41") -> None:
        self._connection = _UnixConnection(path, timeout)
        self._path = path
        self._timeout = timeout
        self._version = version

    def exchange(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One request as it stands; the status and the body, whatever they are."""
        for last_try in (False, True):
            fresh = self._connection.sock is None
            try:
                self._connection.request(method, path, body, dict(headers or {}))
                response = self._connection.getresponse()
                return response.status, response.read()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self._connection.close()
                if fresh or last_try:  # only a kept connection may have been closed meanwhile
                    raise
            except BaseException:
                self._connection.close()
                raise
        raise AssertionError("unreachable")

    def call(self, method: str, path: str, body: object = None, **query: object) -> Any:
        """One request with JSON on both sides. Query values that are not text are sent as JSON."""
        if query:
            texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in query.items()}
            path = f"{path}?{urlencode(texts)}"
        if isinstance(body, bytes):
            status, answer = self.exchange(
                method, f"/{self._version}{path}", body, {"Content-Type": "application/x-tar"}
            )
        elif body is None:
            status, answer = self.exchange(method, f"/{self._version}{path}")
        else:
            encoded = json.dumps(body).encode()
            status, answer = self.exchange(
                method, f"/{self._version}{path}", encoded, {"Content-Type": "application/json"}
            )
        if status >= 400:
            raise ApiError(status, _message(answer))
        return _decoded(answer)

    def get(self, path: str, **query: object) -> Any:
        """Read."""
        return self.call("GET", path, **query)

    def post(self, path: str, body: object = None, **query: object) -> Any:
        """Change; bytes are sent as a tar archive, anything else as JSON."""
        return self.call("POST", path, body, **query)

    def delete(self, path: str, **query: object) -> Any:
        """Remove."""
        return self.call("DELETE", path, **query)

    @contextmanager
    def stream(self, method: str, path: str) -> Iterator[http.client.HTTPResponse]:
        """A request on a connection of its own whose answer is read as it comes."""
        connection = _UnixConnection(self._path, self._timeout)
        try:
            connection.request(method, f"/{self._version}{path}")
            yield connection.getresponse()
        finally:
            connection.close()

    def close(self) -> None:
        """Close the kept connection; the next call opens another."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace").strip()


def _decoded(answer: bytes) -> Any:
    try:
        return json.loads(answer) if answer else None
    except ValueError:  # a stream of messages, or plain text
        return answer
