"""A host of a test's own for machines: a network namespace, a store, and the command in it."""

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from enxame.machine.local.network import LocalNetwork
from enxame.testing.namespace import HostAndOutside, mounts_below, unmount_below
from tests.terminal import converse

ENXAME = str(Path(sys.executable).with_name("enxame"))


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


class MachineLab:
    """Commands run where the "host" is; machines are made there, and all are taken away at the end."""

    def __init__(self) -> None:
        self.network = HostAndOutside("m")
        # Not pytest's own directory: a machine's daemon keeps sockets below it.
        self._directory = tempfile.TemporaryDirectory(prefix="enxm-", dir="/var/tmp")
        self.directory = Path(self._directory.name)
        self.store = self.directory / "store"
        self._id = LocalNetwork(self.store).bridge.removeprefix("enxame-")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "SHELL": "/bin/bash",
            "LC_ALL": "C.UTF-8",
            "MACHINE_STORAGE_PATH": str(self.store),
        }

    def result(self, *argv: str, stdin: str = "", timeout: float = 90, **environment: str) -> Result:
        done = subprocess.run(
            self.network.host.argv(*argv),
            env={**self.environment, **environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """``enxame`` in the background."""
        return subprocess.Popen(
            self.network.host.argv(ENXAME, *argv),
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __call__(self, *argv: str, stdin: str = "", **more: str) -> str:
        """``enxame`` with these words: expect success, return standard output without the last line end."""
        result = self.result(ENXAME, *argv, stdin=stdin, **more)
        assert result.code == 0, f"enxame {' '.join(argv)}: {result}"
        return result.out.rstrip("\n")

    def refused(self, *argv: str, code: int = 1, stdin: str = "", **more: str) -> str:
        """Expect failure with this exit code, return what was said on standard error."""
        result = self.result(ENXAME, *argv, stdin=stdin, **more)
        assert result.code == code, f"enxame {' '.join(argv)}: {result}"
        return result.err.strip()

    def on_terminal(self, *argv: str, typed: str) -> tuple[int, str]:
        """``enxame`` on a pseudo-terminal: what is typed at its first output; exit code and the screen's text."""
        return converse(self.network.host.argv(ENXAME, *argv), self.environment, typed, "dumb")

    def environment_of(self, machine: str) -> dict[str, str]:
        """What ``machine env`` sets."""
        return dict(re.findall(r'^export (\w+)="(.*)"$', self("machine", "env", machine), re.MULTILINE))

    def holdings(self) -> dict[str, set[str]]:
        """What machines have of the kernel."""
        return {
            "links": set(re.findall(r"^\d+: ([^:@]+)", self.network.host.ip("-o", "link"), re.MULTILINE)),
            "rules": set(self.network.host.run("nft", "list", "tables").splitlines()),
            "groups": {str(path) for path in Path("/sys/fs/cgroup").glob(f"*/enxame-machines/{self._id}-*")},
            "processes": {str(pid) for pid in self.processes()},
            "mounts": set(mounts_below(self.directory)),
        }

    def processes(self) -> list[int]:
        """All that name this lab's directory: the first processes of machines, daemons, monitors."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    named = str(self.directory).encode() in (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if named:
                    found.append(int(entry.name))
        return found

    def close(self) -> None:
        names = self.result(ENXAME, "machine", "ls", "-q").out.split()
        if names:
            self.result(ENXAME, "machine", "rm", "-f", *names)
        for pid in self.processes():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        unmount_below(self.directory)
        self.network.close()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
