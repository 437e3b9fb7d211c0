"""A tiny daemon that answers from a table and writes down what it was asked."""

import http.server
import json
import re
import socketserver
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Answer = tuple[int, Any]


@dataclass
class Recorded:
    """One request; ``path`` has no version prefix."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


class RecordingDaemon:
    """Serves on a unix socket. ``answers`` maps "METHOD /path-regex" to (status, JSON); 404 otherwise."""

    def __init__(self, socket_path: Path, answers: dict[str, Answer], version: str = "1.41") -> None:
        self.requests: list[Recorded] = []
        self.answers = answers
        self.url = f"unix://{socket_path}"
        daemon = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def address_string(self):
                return "client"

            def log_message(self, *args):
                return

            def _serve(self):
                length = int(self.headers.get("Content-Length") or 0)
                raw = self.rfile.read(length)
                if self.headers.get("Transfer-Encoding") == "chunked":
                    raw = b""
                    while size := int(self.rfile.readline(), 16):
                        raw += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                parts = urlsplit(self.path)
                path = re.sub(r"^/v\d+\.\d+", "", parts.path)
                asked = re.match(r"^/v(\d+)\.(\d+)", parts.path)
                status, answer = daemon.answer(self.command, path)
                if asked and (int(asked[1]), int(asked[2])) > tuple(int(p) for p in version.split(".")):
                    spoken = f"{asked[1]}.{asked[2]}"
                    limit = f"Maximum supported API version is {version}"
                    status, answer = 400, {"message": f"client version {spoken} is too new. {limit}"}
                else:
                    try:
                        body = json.loads(raw) if raw else None
                    except ValueError:
                        body = raw
                    daemon.requests.append(
                        Recorded(
                            self.command,
                            path,
                            dict(parse_qsl(parts.query, keep_blank_values=True)),
                            body,
                            dict(self.headers),
                        )
                    )
                data = b"OK" if path == "/_ping" else (b"" if answer is None else json.dumps(answer).encode())
                self.send_response(status)
                self.send_header("Api-Version", version)
                self.send_header("Ostype", "linux")
                self.send_header("Content-Type", "text/plain" if path == "/_ping" else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve  # noqa: N815

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True
            request_queue_size = 50

        self._server = Server(str(socket_path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def answer(self, method: str, path: str) -> Answer:
        if path == "/_ping":
            return 200, None
        for pattern, answer in self.answers.items():
            if re.fullmatch(pattern, f"{method} {path}"):
                return answer
        return 404, {"message": f"page not found: {method} {path}"}

    def sent(self, method: str, path: str) -> list[Recorded]:
        """Recorded requests of that method whose path matches the regex."""
        return [r for r in self.requests if r.method == method and re.fullmatch(path, r.path)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
