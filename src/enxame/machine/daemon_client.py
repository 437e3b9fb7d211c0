"""Asks a machine's daemon over its TLS socket."""

import http.client
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from enxame.machine.errors import MachineError

#: Seconds between two questions while a daemon comes up.
_INTERVAL: Final = 0.03


class MachineClient:
    """One call, one connection. ``certificates`` holds ca.pem, cert.pem and key.pem; ``timeout`` in seconds."""

    def __init__(self, url: str, certificates: Path, *, timeout: float) -> None:
        self._where = urlsplit(url)
        self._certificates = certificates
        self._timeout = timeout
        self._made: ssl.SSLContext | None = None

    def _context(self) -> ssl.SSLContext:
        if self._made is None:
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            made.load_verify_locations(self._certificates / "ca.pem")
            made.load_cert_chain(self._certificates / "cert.pem", self._certificates / "key.pem")
            self._made = made
        return self._made

    def call(self, method: str, path: str, body: Any = None, *, timeout: float | None = None) -> Any:
        """The decoded answer. Raises MachineError with the daemon's words, OSError when nobody answers."""
        host, port = self._where.hostname or "", self._where.port or 2376
        wait = timeout or self._timeout
        connection = http.client.HTTPSConnection(host, port, timeout=wait, context=self._context())
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except http.client.HTTPException as problem:
            raise ConnectionError(f"broken answer from {host}:{port}: {problem!r}") from None
        finally:
            connection.close()
        decoded = _decode(text)
        if answer.status >= 400:
            said = decoded.get("message", text) if isinstance(decoded, dict) else text
            raise MachineError(f"Error response from daemon: {said}")
        return decoded

    def get(self, path: str) -> Any:
        """The decoded answer to a GET."""
        return self.call("GET", path)

    def wait_ready(self, deadline: float, failed: Callable[[], bool]) -> None:
        """Returns when the daemon answers; raises TimeoutError after ``deadline`` seconds, or when it ``failed``."""
        end = time.monotonic() + deadline
        while True:
            try:
                self.call("GET", "/_ping", timeout=2.0)
            except (OSError, MachineError) as problem:
                if time.monotonic() > end or failed():
                    raise TimeoutError(str(problem)) from None
                time.sleep(_INTERVAL)  # there is nothing to wait on: the socket is not there yet
            else:
                return


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
