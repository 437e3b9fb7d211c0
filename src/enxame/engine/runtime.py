"""Drives an OCI runtime (crun, runc) under conmon, the monitor that outlives the daemon.

Every call is one short-lived process. Errors of the runtime become :class:`RuntimeFailure` with the runtime's words.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from enxame.engine.processes import PipeReader, Process, run, spawn
from enxame.engine.runtime_namespace import RuntimeNamespace
from enxame.engine.seccomp_cache import SeccompCache

_CREATE_DEADLINE = 60.0
_CALL_DEADLINE = 30.0
_SYNC_DEADLINE = 5.0


class RuntimeFailure(Exception):
    """The runtime refused. ``message`` in its own words."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class _SyncMessage(msgspec.Struct):
    """What conmon writes to its sync pipe: a pid, or -1 and why."""

    data: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class MonitorOptions:
    """What conmon is told of one container. ``logs`` are ``k8s-file:PATH``, ``journald:`` or ``none``."""

    container_id: str
    name: str
    bundle: Path
    exit_directory: Path
    logs: list[str]
    terminal: bool
    stdin: bool
    stdin_once: bool


@dataclass(frozen=True, slots=True)
class Created:
    """Process ids of the container (stopped before its first instruction) and of its monitor."""

    pid: int
    monitor_pid: int


class Runtime:
    """A runtime program with its state directory ``root``. ``kind`` says whose command line it understands, ``name``
    how clients ask for it; unless told otherwise both are the program's. ``arguments`` come with each call.
    """

    def __init__(
        self,
        program: str,
        root: Path,
        conmon: str,
        namespace: RuntimeNamespace | None = None,
        *,
        name: str = "",
        kind: str = "",
        arguments: Sequence[str] = (),
    ) -> None:
        self.program = program
        self.name = name or Path(program).name
        self._kind = kind or Path(program).name
        self.arguments = tuple(arguments)
        self._root = root
        self._conmon = conmon
        self._namespace = namespace
        self._enter = namespace.enter if namespace is not None else list[str]
        #: Filters that crun need not compile again; None for a runtime that takes none.
        self.seccomp_cache = SeccompCache(root) if self._kind == "crun" else None

    def sibling(
        self, program: str, name: str, kind: str, arguments: Sequence[str], namespace: RuntimeNamespace | None
    ) -> Runtime:
        """Another program beside this one."""
        return Runtime(program, self._root, self._conmon, namespace, name=name, kind=kind, arguments=arguments)

    @property
    def namespace(self) -> RuntimeNamespace | None:
        """The mount namespace it runs in, if not the daemon's."""
        return self._namespace

    def state_directory(self, container_id: str) -> Path:
        """Where the runtime keeps what it knows of a container."""
        return self._root / container_id

    def _global_arguments(self) -> list[str]:
        manager = ["--cgroup-manager=cgroupfs"] if self._kind == "crun" else []
        return [f"--root={self._root}", *manager, *self.arguments]

    def argv(self, *arguments: str) -> list[str]:
        """The command line of one call."""
        return [*self._enter(), self.program, *self._global_arguments(), *arguments]

    async def create(self, options: MonitorOptions) -> Created:
        """Start the monitor, which creates the container from ``bundle/config.json``; it waits for :meth:`start`.

        Raises:
            RuntimeFailure: the runtime refused; nothing of the container is left.
        """
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        reader = PipeReader(read_end)
        monitor_file = options.bundle / "conmon.pid"
        argv = [*self._enter(), self._conmon, *self._monitor_arguments(options, monitor_file)]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "_OCI_SYNCPIPE": str(write_end)}
        try:
            try:
                process = await spawn(argv, inherit=(write_end,), env=env, new_session=True)
            finally:
                os.close(write_end)
            try:
                async with asyncio.timeout(_CREATE_DEADLINE):
                    said = await self._first_line(reader)
                    await process.wait()
            except TimeoutError as error:
                await process.end()
                raise RuntimeFailure(f"timed out after {_CREATE_DEADLINE:.0f} s") from error
        finally:
            reader.close()
        try:
            message = msgspec.json.decode(said, type=_SyncMessage, strict=False)
        except msgspec.DecodeError as error:
            raise RuntimeFailure("the monitor died before the container was created") from error
        if message.data <= 0:
            raise RuntimeFailure(message.message.strip() or "unknown error")
        try:
            monitor_pid = int(monitor_file.read_text())
        except (OSError, ValueError) as error:
            raise RuntimeFailure(f"the monitor left no pid file: {error}") from error
        return Created(message.data, monitor_pid)

    def _monitor_arguments(self, options: MonitorOptions, monitor_file: Path) -> list[str]:
        arguments = [
            "--api-version=1",
            f"--cid={options.container_id}",
            f"--cuuid={options.container_id}",
            f"--name={options.name}",
            f"--runtime={self.program}",
            f"--bundle={options.bundle}",
            f"--container-pidfile={options.bundle / 'pid'}",
            f"--conmon-pidfile={monitor_file}",
            f"--exit-dir={options.exit_directory}",
            *(f"--log-path={log}" for log in options.logs),
            "--log-level=error",
            "--full-attach",
            "--no-sync-log",
        ]
        arguments += [f"--runtime-arg={argument}" for argument in self._global_arguments()]
        if options.terminal:
            arguments.append("--terminal")
        if options.stdin:
            arguments.append("--stdin")
            # As Docker: a terminal's input outlives who leaves it, whatever StdinOnce says.
            if options.terminal or not options.stdin_once:
                arguments.append("--leave-stdin-open")
        return arguments

    @staticmethod
    async def _first_line(reader: PipeReader) -> bytes:
        said = b""
        while b"\n" not in said:
            data = await reader.read()
            if not data:
                break
            said += data
        return said.partition(b"\n")[0]

    async def start(self, container_id: str) -> None:
        """Let a created container run. Raises RuntimeFailure."""
        if self._kind != "crun" or not self._open_gate(container_id):
            await self._call("start", container_id)

    def _open_gate(self, container_id: str) -> bool:
        """What ``crun start`` does, without its process: the container waits for a byte in its fifo."""
        gate = self.state_directory(container_id) / "exec.fifo"
        try:
            descriptor = os.open(gate, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            # A container whose fifo is gone counts as started.
            os.unlink(gate)
            os.write(descriptor, b"\0")
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    async def delete(self, container_id: str) -> None:
        """Forget a container and kill what is left of it; fine when there is none."""
        await self._call("delete", "--force", container_id)

    async def update(self, container_id: str, resources: dict[str, Any], file: Path) -> None:
        """Change the limits of a container that was created; ``file`` holds them meanwhile.

        Raises:
            RuntimeFailure: the runtime, or the kernel, refused.
        """
        await asyncio.to_thread(file.write_bytes, msgspec.json.encode(resources))
        await self._call("update", f"--resources={file}", container_id)

    async def _call(self, *arguments: str) -> None:
        try:
            code, said = await run(self.argv(*arguments), timeout=_CALL_DEADLINE)
        except TimeoutError as error:
            raise RuntimeFailure(f"{self.name} {arguments[0]}: no answer in {_CALL_DEADLINE:.0f} s") from error
        except OSError as error:
            raise RuntimeFailure(f"{self.program}: {error.strerror}") from error
        if code:
            raise RuntimeFailure(last_error(said) or f"{self.name} {arguments[0]} failed with exit code {code}")

    async def exec(
        self,
        container_id: str,
        process_file: Path,
        pid_file: Path,
        log_file: Path,
        stdio: tuple[int, int, int],
        *,
        tty: bool,
    ) -> Process:
        """Run a process in the container, in the foreground of a runtime process that is our child.

        Its exit code is the exec's. What the runtime itself has to say goes to ``log_file``.
        """
        argv = [
            *self._enter(),
            self.program,
            *self._global_arguments(),
            f"--log={log_file}",
            "exec",
            f"--process={process_file}",
            f"--pid-file={pid_file}",
            *(["--tty"] if tty else []),
            container_id,
        ]
        stdin, stdout, stderr = stdio
        return await spawn(argv, stdin=stdin, stdout=stdout, stderr=stderr, new_session=True)


def last_error(said: str) -> str:
    """The last line of what a runtime wrote, without its time stamp."""
    lines = [line for line in said.strip().splitlines() if line.strip()]
    return re.sub(r"^\S+T\S+: ", "", lines[-1]) if lines else ""
