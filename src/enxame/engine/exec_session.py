"""Execs: processes run in a container beside its own. Each is the child of a runtime process that is our child."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import struct
import termios
import tty as terminal
from pathlib import Path

import msgspec

from enxame.engine import capabilities, oci_spec
from enxame.engine.attachment import ProcessAttachment
from enxame.engine.container import Container
from enxame.engine.exit_watch import DirectoryWatch
from enxame.engine.image_defaults import as_list, merge_env
from enxame.engine.processes import PipeReader, Process
from enxame.engine.runtime import Runtime, last_error
from enxame.engine.runtime_errors import exec_failure
from enxame.engine.users import resolve_user
from enxame.errors import Conflict, EnxameError, InvalidArgument
from enxame.model.exec import ExecCreateRequest, ExecInspect, ExecProcessConfig
from enxame.model.stream import STDERR, STDOUT

_START_DEADLINE = 30.0
#: The exit code of an exec whose runtime process could not be started.
_NOT_STARTED = 126
_encode = msgspec.json.Encoder().encode


class ExecSession:
    """One exec. ``exit_code`` is None until it has ended."""

    def __init__(self, identity: str, container: Container, request: ExecCreateRequest, directory: Path) -> None:
        self.id = identity
        self.container = container
        self.request = request
        self.exit_code: int | None = None
        self.started = False
        self._directory = directory
        self._process: Process | None = None
        self._terminal = -1
        self._size: tuple[int, int] | None = None

    @property
    def running(self) -> bool:
        """It has begun and not ended."""
        return self._process is not None and self.exit_code is None

    @property
    def command(self) -> list[str]:
        """Program and arguments."""
        return as_list(self.request.cmd)

    async def begin(
        self, runtime: Runtime, available: frozenset[str], *, attached: bool, tty: bool
    ) -> ProcessAttachment:
        """Start the runtime's process. Follow it with :meth:`finish`.

        Raises:
            Conflict: it was started before, or the container does not run.
            EnxameError: user or group are not in the container's files.
        """
        if self.started:
            raise Conflict(f"Error: Exec command {self.id} has already run")
        if not self.container.running:
            raise Conflict(f"Container {self.container.id} is not running")
        if self.container.condition.paused:
            raise Conflict(f"Container {self.container.name} is paused, unpause the container before exec")
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            (self._directory / "process.json").write_bytes(_encode(self._spec(available, tty=tty)))
        except OSError as error:
            raise EnxameError(f"cannot prepare the exec: {error}") from error
        self.started = True
        try:
            if attached and tty:
                return await self._begin_terminal(runtime)
            return await self._begin_pipes(runtime, attached=attached)
        except BaseException:
            self.exit_code = _NOT_STARTED
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True))
            raise

    def _spec(self, available: frozenset[str], *, tty: bool) -> dict[str, object]:
        definition, request = self.container.definition, self.request
        host = definition.host
        user = resolve_user(
            request.user or definition.config.user,
            host.group_add or [],
            f"/proc/{self.container.condition.pid}/root",
        )
        granted = capabilities.effective(
            host.cap_add or [],
            host.cap_drop or [],
            privileged=host.privileged or request.privileged,
            available=available,
        )
        env = oci_spec.container_env(definition.config, definition.config.hostname, user.home)
        if request.user:
            env = merge_env(env, [f"HOME={user.home}"])
        if tty and not definition.config.tty:
            env = merge_env(["TERM=xterm"], env)
        return oci_spec.build_process(
            args=self.command,
            env=merge_env(env, request.env),
            cwd=request.working_dir or definition.config.working_dir or "/",
            user=user,
            capabilities=granted,
            terminal=tty,
            no_new_privileges=oci_spec.no_new_privileges(host),
        )

    async def _begin_terminal(self, runtime: Runtime) -> ProcessAttachment:
        ours, theirs = os.openpty()
        try:
            terminal.setraw(theirs)
            size = self._size or tuple(self.request.console_size or ())
            if size:
                _set_size(ours, *size)
            self._process = await self._spawn(runtime, (theirs, theirs, theirs), tty=True)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._terminal = ours
        if self._size is not None and self._size != size:  # a client changed it meanwhile
            self.resize(*self._size)
        reader = PipeReader(os.dup(ours))
        return ProcessAttachment(self._process, tty=True, stdin=ours, outputs={STDOUT: reader}, keeper=ours)

    async def _begin_pipes(self, runtime: Runtime, *, attached: bool) -> ProcessAttachment:
        request = self.request
        theirs: list[int] = []
        outputs: dict[int, PipeReader] = {}
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        theirs.append(null)
        stdin, stdio = -1, [null, null, null]
        try:
            if attached and request.attach_stdin:
                stdio[0], stdin = os.pipe2(os.O_CLOEXEC)
                theirs.append(stdio[0])
            for stream, wanted in ((STDOUT, request.attach_stdout), (STDERR, request.attach_stderr)):
                if attached and wanted:
                    read_end, stdio[stream] = os.pipe2(os.O_CLOEXEC)
                    theirs.append(stdio[stream])
                    outputs[stream] = PipeReader(read_end)
            self._process = await self._spawn(runtime, (stdio[0], stdio[1], stdio[2]), tty=False)
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return ProcessAttachment(self._process, tty=False, stdin=stdin, outputs=outputs)

    async def _spawn(self, runtime: Runtime, stdio: tuple[int, int, int], *, tty: bool) -> Process:
        process = await runtime.exec(
            self.container.id,
            self._directory / "process.json",
            self._directory / "pid",
            self._directory / "log",
            stdio,
            tty=tty,
        )
        self.container.exec_processes.add(process)
        return process

    async def finish(self, attachment: ProcessAttachment | None) -> int:
        """Wait for the end; returns the exit code. Tells the attachment why, when it never began."""
        assert self._process is not None  # begin came before
        code = await self._process.wait()
        self.container.exec_processes.discard(self._process)
        message = self._failure()
        if message:
            text, failed = exec_failure(message, next(iter(self.command), ""))
            code = failed
        if attachment is not None and not attachment.epilogue.done():
            attachment.epilogue.set_result(f"{text}\r\n".encode() if message else b"")
        self.exit_code = code
        self._terminal = -1
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)
        return code

    def _failure(self) -> str:
        """What the runtime said when the exec never began; empty when it did."""
        if (self._directory / "pid").exists():
            return ""
        try:
            text = (self._directory / "log").read_text(errors="replace")
        except OSError:
            return ""
        return last_error(text)

    async def wait_until_begun(self, ended: asyncio.Task[int]) -> None:
        """Return when the process runs in the container.

        Raises:
            InvalidArgument: it could not be run; the text says why.
        """
        begun = asyncio.Event()
        watch = DirectoryWatch(str(self._directory), lambda name: begun.set() if name == "pid" else None, begun.set)
        try:
            if (self._directory / "pid").exists():
                return
            waiting = asyncio.ensure_future(begun.wait())
            async with asyncio.timeout(_START_DEADLINE):
                await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        finally:
            watch.close()

    def resize(self, height: int, width: int) -> None:
        """Set the terminal's size; before the start: the size it will have."""
        self._size = (height, width)
        if self._terminal >= 0 and self._process is not None:
            _set_size(self._terminal, height, width)
            # crun copies the size once only: the process's own terminal is set as well.
            with contextlib.suppress(OSError):
                inner = os.open(f"/proc/{self.pid()}/fd/0", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
                try:
                    _set_size(inner, height, width)
                finally:
                    os.close(inner)

    async def end(self) -> None:
        """Kill what runs."""
        if self._process is not None and self.exit_code is None:
            pid = self.pid()
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await self._process.end()

    def pid(self) -> int:
        """The process's id in the host's view; 0 when it does not run."""
        try:
            return int((self._directory / "pid").read_text())
        except (OSError, ValueError):
            return 0

    def show(self) -> ExecInspect:
        """``GET /exec/{id}/json``."""
        request, command = self.request, self.command
        return ExecInspect(
            id=self.id,
            running=self.running,
            exit_code=self.exit_code,
            process_config=ExecProcessConfig(
                tty=request.tty,
                entrypoint=command[0] if command else "",
                arguments=command[1:],
                privileged=request.privileged,
                user=request.user,
            ),
            open_stdin=request.attach_stdin,
            open_stdout=request.attach_stdout,
            open_stderr=request.attach_stderr,
            container_id=self.container.id,
            detach_keys=request.detach_keys,
            pid=self.pid() if self.running else 0,
        )


def check_request(request: ExecCreateRequest) -> None:
    """Raise InvalidArgument for an exec that makes no sense, in Docker's words."""
    if not as_list(request.cmd):
        raise InvalidArgument("No exec command specified")
    if request.working_dir and not request.working_dir.startswith("/"):
        raise InvalidArgument("OCI runtime exec failed: exec failed: Cwd must be an absolute path: unknown")
    if request.console_size is not None and len(request.console_size) != 2:
        raise InvalidArgument("invalid ConsoleSize: expected two numbers")


def _set_size(descriptor: int, height: int, width: int) -> None:
    try:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    except struct.error as error:
        raise InvalidArgument(f"invalid terminal size: {height} x {width}") from error
