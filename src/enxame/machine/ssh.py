"""Reaches hosts with the system's ``ssh``. A host's key is pinned when it is first seen, in the machine's own file."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from enxame.machine.errors import MachineError

#: Seconds for the connection, and for a command without a deadline of its own.
_CONNECT: Final = 10
_DEADLINE: Final = 60.0
#: ssh's own exit code when it could not connect.
_NO_CONNECTION: Final = 255


@dataclass(frozen=True)
class SshHost:
    """Where and as whom. ``key``: empty for the user's agent and default keys."""

    address: str
    port: int
    user: str
    key: Path | None
    known_hosts: Path

    def options(self, *, batch: bool) -> list[str]:
        """For ssh and scp alike, without the port."""
        words = [
            *("-F", "/dev/null"),
            *("-o", "StrictHostKeyChecking=accept-new"),
            *("-o", f"UserKnownHostsFile={self.known_hosts}"),
            *("-o", "GlobalKnownHostsFile=/dev/null"),
            *("-o", "PasswordAuthentication=no"),
            *("-o", f"ConnectTimeout={_CONNECT}"),
            *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),
            *("-o", "LogLevel=ERROR"),
        ]
        if batch:
            words += ["-o", "BatchMode=yes"]
        if self.key is not None:
            words += ["-o", "IdentitiesOnly=yes", "-i", str(self.key)]
        return words

    def shell(self, words: Sequence[str], *, terminal: bool = False, batch: bool = False) -> list[str]:
        """The command line that runs ``words`` (none: a login shell) there."""
        asked = ["-t"] if terminal else []
        return ["ssh", *self.options(batch=batch), *asked, "-p", str(self.port), f"{self.user}@{self.address}", *words]

    def scp(self, words: Sequence[str]) -> list[str]:
        """``scp``; addresses on this host are ``:PATH``."""
        there = [f"{self.user}@{_bracketed(self.address)}{word}" if word.startswith(":") else word for word in words]
        return ["scp", *self.options(batch=False), "-P", str(self.port), *there]

    def run(self, command: str, *, stdin: bytes = b"", timeout: float = _DEADLINE) -> str:
        """Its standard output. Raises MachineError with what was said, NoConnection when there was nobody."""
        try:
            done = subprocess.run(
                self.shell([command], batch=True), input=stdin, capture_output=True, timeout=timeout, check=False
            )
        except FileNotFoundError:
            raise MachineError("the program `ssh` is missing: install the package openssh-client") from None
        except subprocess.TimeoutExpired:
            raise MachineError(f"{self.address}: no end of the command within {timeout:g} s") from None
        said = "\n".join((done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-20:])
        if done.returncode == _NO_CONNECTION:
            raise NoConnection(f"cannot reach {self.user}@{self.address}:{self.port} over SSH: {said or 'no answer'}")
        if done.returncode:
            raise MachineError(f"ssh command error on {self.address}: exit status {done.returncode}: {said}")
        return done.stdout.decode(errors="replace")


class NoConnection(MachineError):
    """There is no SSH session to be had: nobody listens, the key is refused, or the host's key is another one."""


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
