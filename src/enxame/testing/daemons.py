"""Real daemons for tests and measurements: `enxamed`, and `dockerd` to compare it with, each in its own namespace."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from enxame.testing.engine_client import ApiError, EngineClient
from enxame.testing.namespace import HostAndOutside, LanHost, unmount_below
from enxame.testing.promises import allowed

T = TypeVar("T")

#: Runs the rest of a command line, after a name, on a machine of that name.
_WITH_HOSTNAME = ["unshare", "--uts", "--", "sh", "-c", 'hostname "$0" && exec "$@"']


class DaemonFailed(Exception):
    """The daemon ended, or did not get ready in time; carries the end of its log."""


def wait_until(condition: Callable[[], T], what: str, *, timeout: float = 30, interval: float = 0.02) -> T:
    """Ask *condition* again and again until its answer is true; returns it.

    Raises:
        TimeoutError: it was not true within what is allowed for *timeout* (``promises``); names *what*.
    """
    timeout = allowed(timeout)
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s; last seen: {answer!r}")
        time.sleep(interval)


class Daemon:
    """One daemon: its directories below *directory*, its socket, its log. Containers may outlive it until `close`."""

    name: ClassVar[str]
    monitors: ClassVar[tuple[str, ...]]

    def __init__(self, directory: Path, network: HostAndOutside | LanHost, *, extra_args: Sequence[str] = ()) -> None:
        self.directory = directory
        self.network = network
        self.data_root = directory / "data"
        self.exec_root = directory / "exec"
        self.socket = directory / "daemon.sock"
        self.log = directory / "daemon.log"
        self.url = f"unix://{self.socket}"
        #: What the daemon's environment has beside this process's own.
        self.environment: dict[str, str] = {}
        self._extra_args = list(extra_args)
        self._process: subprocess.Popen[bytes] | None = None
        self._client: EngineClient | None = None
        directory.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        """The daemon's command line, to be run inside its network namespace."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        if self._process is None:
            raise DaemonFailed(f"{self.name} is not started")
        return self._process.pid

    @property
    def api(self) -> EngineClient:
        """A client of the daemon's socket, one connection, for one thread."""
        if self._client is None:
            self._client = EngineClient(str(self.socket))
        return self._client

    def start(self, timeout: float = 60) -> None:
        """Start the daemon and wait until it answers."""
        hostname = [] if isinstance(self.network, HostAndOutside) else [*_WITH_HOSTNAME, self.network.hostname]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.network.host.argv(*hostname, *self.command(), *self._extra_args),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        try:
            wait_until(self._answers, f"{self.name} is ready", timeout=timeout)
        except TimeoutError as late:
            raise DaemonFailed(f"{late}\n{self.log_tail()}") from None

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise DaemonFailed(f"{self.name} ended with exit code {self._process.returncode}\n{self.log_tail()}")
        try:
            return self.api.exchange("GET", "/_ping")[0] == 200
        except OSError:
            return False

    def runs(self) -> bool:
        """Whether the daemon was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self, timeout: float = 60) -> int:
        """Ask the daemon to end, and wait for it; returns its exit code."""
        return self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """End the daemon as a power cut would: nothing is told."""
        self._end(signal.SIGKILL, 60)

    def _end(self, how: signal.Signals, timeout: float) -> int:
        if self._client is not None:
            self._client.close()
            self._client = None
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(how)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(60)
            raise DaemonFailed(
                f"{self.name} did not end within {timeout:g} s of {how.name}\n{self.log_tail()}"
            ) from None
        self._process = None
        return code

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the daemon's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def processes(self) -> Iterator[tuple[int, str]]:
        """Pid and program of every process that names this daemon's directory: the daemon, its helpers, monitors."""
        needle = str(self.directory).encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                argv = (entry / "cmdline").read_bytes()
                if needle in argv:
                    yield int(entry.name), Path(argv.split(b"\0", 1)[0].decode(errors="replace")).name

    def monitor_pids(self) -> list[int]:
        """The monitors of containers: one for each, outside the daemon."""
        return [pid for pid, program in self.processes() if program.startswith(self.monitors)]

    def daemon_pids(self) -> list[int]:
        """The daemon and the helpers that it keeps, without monitors."""
        return [pid for pid, program in self.processes() if not program.startswith(self.monitors)]

    def leave_no_container(self) -> None:
        """Remove the swarm and all containers, as far as the daemon still answers."""
        with contextlib.suppress(ApiError, OSError):
            self.api.post("/swarm/leave", force="1")
        with contextlib.suppress(ApiError, OSError):
            for container in self.api.get("/containers/json", all="1"):
                with contextlib.suppress(ApiError):
                    self.api.delete(f"/containers/{container['Id']}", force="1", v="1")

    def close(self) -> None:
        """End everything that is left of this daemon and remove its files."""
        try:
            if self._process is not None and self._process.poll() is None:
                self.leave_no_container()
                self.stop()
        except DaemonFailed as failure:
            print(failure, file=sys.stderr)  # a clean-up says what it met and goes on
        finally:
            self._end(signal.SIGKILL, 10)
            for pid, _program in list(self.processes()):
                _kill_with_children(pid)
            unmount_below(self.directory)
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Enxamed(Daemon):
    """The daemon of this project, from the environment that runs the tests."""

    name = "enxamed"
    monitors = ("conmon",)

    def command(self) -> list[str]:
        """The `enxamed` beside the interpreter that runs this."""
        program = str(Path(sys.executable).with_name("enxamed"))
        return [program, "-H", self.url, "--data-root", str(self.data_root), "--exec-root", str(self.exec_root)]


class Dockerd(Daemon):
    """Debian's dockerd with a containerd of its own."""

    name = "dockerd"
    monitors = ("containerd-shim", "docker-proxy")

    def command(self) -> list[str]:
        """Finds runc, containerd and the rest on the PATH."""
        roots = ["--data-root", str(self.data_root), "--exec-root", str(self.exec_root)]
        return ["dockerd", "-H", self.url, *roots, "--pidfile", str(self.directory / "dockerd.pid")]

    def close(self) -> None:
        """As any daemon, and the cgroup that dockerd keeps."""
        super().close()
        _remove_empty_cgroups("docker")


DAEMONS: dict[str, type[Daemon]] = {"enxamed": Enxamed, "dockerd": Dockerd}


def _kill_with_children(pid: int) -> None:
    """End a left-over monitor and the container below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    with contextlib.suppress(OSError):
        for child in children.read_text().split():
            _kill_with_children(int(child))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _remove_empty_cgroups(name: str) -> None:
    root = Path("/sys/fs/cgroup")
    for parent in (root, *root.iterdir()):
        top = parent / name
        if not top.is_dir():
            continue
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):  # busy: another daemon's
                os.rmdir(directory)
