import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from enxame.cli.main import run
from tests.unit.cli.recording_daemon import RecordingDaemon


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def daemon(tmp_path, monkeypatch) -> Iterator[RecordingDaemon]:
    """A recording daemon that the command talks to."""
    daemon = RecordingDaemon(tmp_path / "d.sock", {})
    monkeypatch.setenv("ENXAME_HOST", daemon.url)
    monkeypatch.delenv("DOCKER_API_VERSION", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    yield daemon
    daemon.close()


@pytest.fixture
def enxame(monkeypatch) -> Callable[..., Outcome]:
    """Runs one command line in this process."""

    def call(*args: str, stdin: bytes = b"") -> Outcome:
        out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", out)
            patched.setattr(sys, "stderr", err)
            patched.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            code = run(list(args))
        return Outcome(code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode())

    return call
