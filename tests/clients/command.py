"""Commands as a user runs them."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from enxame.testing.daemons import Daemon, wait_until
from enxame.testing.sample_image import DEFAULT_TAG as IMAGE
from tests.terminal import Terminal, converse

__all__ = ["IMAGE", "Command", "Result", "columns", "docker_programs", "started", "until_it_listens"]


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

    def on_terminal(self, *argv: str, typed: str = "") -> tuple[int, str]:
        """Run it on a pseudo-terminal, type, and return the exit code and the screen's text."""
        return converse([self.program, *argv], self.environment, typed)

    def terminal(self, *argv: str) -> Terminal:
        """Run it on a pseudo-terminal for as long as the block lasts."""
        return Terminal([self.program, *argv], self.environment)


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


def started(docker: Command, *options: str) -> str:
    """A container of the sample image that listens; its id."""
    container = docker("run", "-d", *options, IMAGE)
    until_it_listens(docker, container)
    return container


def until_it_listens(docker: Command, container: str) -> None:
    """Wait for the server of the sample image; it says that it listens a moment before it does."""
    asked = ("exec", container, "sh", "-c", "wget -qO- http://127.0.0.1:${PORT:-80}/")
    wait_until(lambda: docker.result(*asked).code == 0, "the container listens")
