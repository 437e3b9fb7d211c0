"""The ledger finds what a swarm must not do: each liar of a swarm is caught."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from enxame.testing.ledger import Broken, Ledger


class Swarm:
    """Configs in a dictionary, and one task; ``lie`` says what is not done as it is told."""

    def __init__(self, lie: str) -> None:
        self.lie = lie
        self.configs: dict[str, dict[str, Any]] = {}
        self.version = 0
        self.turn = 0

    def answer(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        self.turn += 1
        if path == "/tasks":
            return 200, self._tasks()
        if path == "/nodes":
            return 200, [{"ID": "n", "Status": {"State": "ready"}}]
        if method == "GET":
            if path == "/configs":
                return 200, list(self.configs.values())
            config = self.configs[path.rpartition("/")[2]]
            if self.lie == "stale" and config["Version"]["Index"] > 40:
                return 200, {**config, "Version": {"Index": 3}, "Spec": {**config["Spec"], "Labels": {"n": "0"}}}
            return 200, config
        assert body is not None
        self.version += 1
        if path.endswith("/create"):
            return self._create(body)
        self.configs[body["Name"]] |= {"Spec": body, "Version": {"Index": self.version}}
        return 200, None

    def _create(self, spec: dict[str, Any]) -> tuple[int, Any]:
        if "Labels" not in spec and self.turn > 20:
            if self.lie == "lost" and self.turn % 5 == 0:
                return 201, {"ID": f"i{self.version}"}
            if self.lie == "refused":
                self.configs[spec["Name"]] = {"ID": "x", "Spec": spec, "Version": {"Index": self.version}}
                return 500, {"message": "no leader"}
        self.configs[spec["Name"]] = {"ID": f"i{self.version}", "Spec": spec, "Version": {"Index": self.version}}
        return 201, {"ID": f"i{self.version}"}

    def _tasks(self) -> list[dict[str, Any]]:
        running = {
            "DesiredState": "running",
            "Status": {"State": "running"},
            "ServiceID": "s",
            "Slot": 1,
            "NodeID": "n",
        }
        twice = self.lie == "twice" and self.turn > 10
        return [{**running, "ID": f"t{number}", "Version": {"Index": 1}} for number in range(2 if twice else 1)]


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def served(swarm: Swarm, path: Path) -> Iterator[Any]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = "/" + self.path.split("?")[0].split("/", 2)[2]
            if path.endswith("/update"):
                path = path.removesuffix("/update")
            with lock:
                status, answer = swarm.answer(self.command, path, json.loads(data) if data else None)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _serve  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    server = _Server(str(path), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield SimpleNamespace(
            socket=path, network=SimpleNamespace(hostname="node1"), api=SimpleNamespace(get=lambda _: _configs(swarm))
        )
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


def _configs(swarm: Swarm) -> list[dict[str, Any]]:
    return list(swarm.configs.values())


@pytest.mark.parametrize(
    ("lie", "complaint"),
    [
        ("", None),
        ("lost", "was acknowledged as"),
        ("refused", "is there, although the client was told: no leader"),
        ("stale", "was seen after|that had counted"),
        ("twice", "run at once"),
    ],
)
def test_a_swarm_that_lies_is_caught(tmp_path: Path, lie: str, complaint: str | None) -> None:
    with served(Swarm(lie), tmp_path / "s") as machine:
        with Ledger([machine]) as ledger:
            time.sleep(1.0)  # long enough for every client to have asked some ten times
        if complaint is None:
            ledger.check()
            assert len(ledger.acknowledged) > 10
            assert ledger.longest_gap() < 1.0
        else:
            with pytest.raises(Broken, match=complaint):
                ledger.check()
