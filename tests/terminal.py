"""A person at a terminal: types, and waits for what the screen shows."""

import os
import pty
import select
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Self

__all__ = ["Terminal", "converse"]
DEADLINE = 60.0


class Terminal:
    """A command on a pseudo-terminal; it is killed with the block."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], kind: str = "xterm") -> None:
        self.seen = ""
        self._code: int | None = None
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execvpe(argv[0], argv, {**environment, "TERM": kind})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._terminal)

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def shows(self, text: str) -> None:
        """Wait for it."""
        deadline = time.monotonic() + DEADLINE
        while text not in self.seen:
            if not self._read(deadline):
                raise AssertionError(f"{text!r} is not on the screen: {self.seen!r}")

    def speaks(self) -> None:
        """Wait until there is something to answer: a prompt."""
        assert self.seen or self._read(time.monotonic() + DEADLINE), "nothing is on the screen"

    def ends(self) -> int:
        """Wait for the command's end; its exit code."""
        deadline = time.monotonic() + DEADLINE
        while self._read(deadline):
            pass
        assert time.monotonic() < deadline, f"still running; the screen shows {self.seen!r}"
        self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._code

    def _read(self, deadline: float) -> bool:
        """False when there is no more, or it takes too long."""
        while time.monotonic() < deadline:
            if select.select([self._terminal], [], [], 0.1)[0]:
                try:
                    chunk = os.read(self._terminal, 65536)
                except OSError:  # the other side is gone: Linux says EIO
                    return False
                self.seen += chunk.decode(errors="replace")
                return bool(chunk)
        return False


def converse(argv: Sequence[str], environment: Mapping[str, str], typed: str, kind: str = "xterm") -> tuple[int, str]:
    """Run a command, type at its first output, and return the exit code and the screen's text."""
    with Terminal(argv, environment, kind) as terminal:
        if typed:
            terminal.speaks()
            terminal.type(typed)
        return terminal.ends(), terminal.seen
