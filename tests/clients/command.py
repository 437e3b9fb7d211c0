"""Commands as a user runs them."""

import os
import pty
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from enxame.testing.daemons import Daemon
from enxame.testing.sample_image import DEFAULT_TAG as IMAGE

__all__ = ["IMAGE", "Command", "Result", "columns", "docker_programs"]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


class Command:
    """A program that is told by the environment which daemon to talk to."""

    def __init__(self, program: str, daemon: Daemon, home: Path) -> None:
        self.program = program
        self.daemon = daemon
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "DOCKER_HOST": daemon.url,
            "ENXAME_HOST": daemon.url,
            "LC_ALL": "C.UTF-8",
        }

    @property
    def name(self) -> str:
        return Path(self.program).name

    def result(self, *argv: str, stdin: str | None = None, timeout: float = 60) -> Result:
        done = subprocess.run(
            [self.program, *argv],
            env=self.environment,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def __call__(self, *argv: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Run it, expect success, return standard output without the last line end."""
        result = self.result(*argv, stdin=stdin, timeout=timeout)
        assert result.code == 0, f"{self.name} {' '.join(argv)}: {result}"
        return result.out.rstrip("\n")

    def refused(self, *argv: str, stdin: str | None = None) -> str:
        """Run it, expect failure, return what it said on standard error."""
        result = self.result(*argv, stdin=stdin)
        assert result.code != 0, f"{self.name} {' '.join(argv)} was not refused: {result}"
        return result.err.strip()

    def on_terminal(self, *argv: str, typed: str = "", timeout: float = 30) -> tuple[int, str]:
        """Run it on a pseudo-terminal, type, and return the exit code and the screen's text."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(self.program, [self.program, *argv], {**self.environment, "TERM": "xterm"})
        seen = b""
        to_type = typed.encode()
        deadline = time.monotonic() + timeout
        try:
            while time.monotonic() < deadline:
                if not select.select([terminal], [], [], 0.1)[0]:
                    continue
                try:
                    chunk = os.read(terminal, 65536)
                except OSError:  # the other side is gone: Linux says EIO
                    break
                if not chunk:
                    break
                seen += chunk
                if to_type:  # typed as soon as there is something to answer: a prompt
                    os.write(terminal, to_type)
                    to_type = b""
            else:
                os.kill(pid, 9)
                raise TimeoutError(f"{argv}: still running; the screen shows {seen!r}")
        finally:
            os.close(terminal)
            _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), seen.decode(errors="replace")


def docker_programs() -> list[str]:
    """Every docker command on the PATH, each once."""
    found: dict[str, str] = {}
    for directory in os.environ["PATH"].split(os.pathsep):
        program = shutil.which("docker", path=directory)
        if program:
            found.setdefault(os.path.realpath(program), program)
    return list(found.values())


def columns(table: str) -> list[dict[str, str]]:
    """The rows of a table whose columns begin where their titles do."""
    import re

    lines = table.splitlines()
    titles = [(match.group(), match.start()) for match in re.finditer(r"\S+(?: \S+)*", lines[0])]
    rows = []
    for line in lines[1:]:
        ends = [start for _, start in titles[1:]] + [None]
        rows.append({title: line[start:end].strip() for (title, start), end in zip(titles, ends, strict=True)})
    return rows
