"""One etcd member as a child of this daemon: started, watched, restarted after a crash, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from enxame.errors import EnxameError, Unavailable
from enxame.store import etcd_program
from enxame.store.etcd_program import EtcdSettings

__all__ = ["EtcdServer", "installed_version"]

_log = logging.getLogger(__name__)

_STOP_SECONDS: Final = 5.0
#: A killed process ends when the kernel has done what it asked for last, a write to a disk that hangs, say.
_KILL_SECONDS: Final = 10.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
#: A member that ran this long was well: its next crash is a first one.
_WELL_AFTER: Final = 30.0
_LINE_BYTES: Final = 1 << 16


async def installed_version(program: str | None = None) -> str:
    """The version of the etcd that is installed. Raises Unavailable when there is none that can be trusted."""
    process = await asyncio.create_subprocess_exec(
        program or etcd_program.find(),
        "--version",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=etcd_program.environment(),
    )
    try:
        async with asyncio.timeout(10.0):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Unavailable("etcd --version does not answer") from None
    return etcd_program.check_version(output.decode(errors="replace"))


class EtcdServer:
    """Keeps one member running from :meth:`start` until :meth:`stop`.

    ``answers`` tells whether the member answers its clients: an awaitable that raises while it does not.
    """

    def __init__(
        self, settings: EtcdSettings, *, answers: Callable[[], Awaitable[object]], program: str | None = None
    ) -> None:
        self.settings = settings
        self._answers = answers
        self._program = program
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._force_new_cluster = False
        self._restarting = False
        self._started = asyncio.Event()
        #: The roots that the running member believes (PEM): those of its start.
        self.started_with = ""
        self._last_lines: deque[str] = deque(maxlen=3)
        #: Whether what it says from now on is the stack of a panic.
        self._panicked = False
        #: How often the member ended by itself.
        self.crashes = 0
        #: What it said last when it did.
        self.last_crash = ""

    @property
    def pid(self) -> int | None:
        """The running member's process id."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self, *, force_new_cluster: bool = False, timeout: float = 30.0) -> None:
        """Start the member and wait until it answers.

        ``force_new_cluster`` makes it the only member of its cluster, with the data that it has.

        Raises:
            Unavailable: no fit etcd is installed, or the member does not come up; it is stopped again then.
        """
        program = self._program or etcd_program.find()
        await installed_version(program)
        self.settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._force_new_cluster = force_new_cluster
        self._stopping = False
        self._task = asyncio.create_task(self._supervise(program), name=f"etcd {self.settings.name}")
        try:
            await self.ready(timeout=timeout, crashes=2)
        except BaseException:
            await self.stop()
            raise
        self._force_new_cluster = False

    async def restart(self, *, timeout: float = 30.0) -> None:
        """End the member in order and start it again: it reads its files anew.

        Raises:
            Unavailable: it does not come back in time; it is tried on.
        """
        process = self._process
        if self._task is None or process is None or process.returncode is not None:
            return
        self._restarting = True
        self._started.clear()
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(timeout):
                await self._started.wait()
        except TimeoutError:
            raise Unavailable(f"etcd did not start again within {timeout:g} s") from None
        await self.ready(timeout=timeout)

    async def ready(self, *, timeout: float, crashes: int | None = None) -> None:
        """Wait until the member answers; for no longer than it takes to crash so many times.

        Raises:
            Unavailable: it does not, with etcd's own last words.
        """
        most = None if crashes is None else self.crashes + crashes
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            if self._task is None or self._task.done():
                raise Unavailable("etcd is not running")
            try:
                await self._answers()
                if self.pid is not None:
                    return
            except EnxameError:
                pass
            if most is not None and self.crashes >= most:
                raise Unavailable(f"etcd does not start: {self.last_words}")
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"etcd does not answer within {timeout:g} s: {self.last_words}")
            await asyncio.sleep(0.02)

    @property
    def last_words(self) -> str:
        """The newest lines of its log that are errors."""
        return "; ".join(self._last_lines) or "it says nothing"

    @property
    def trouble(self) -> str:
        """Why the member does not run; empty while it does, or was not started."""
        return "" if self._task is None or self.pid is not None else self.last_crash

    async def stop(self) -> None:
        """End the member: asked first, killed after 5 s. Idempotent."""
        self._stopping = True
        task, self._task = self._task, None
        if task is None:
            return
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await asyncio.wait({task}, timeout=_STOP_SECONDS)
            if not task.done():
                _log.warning("etcd did not stop within %g s: killed", _STOP_SECONDS)
        task.cancel()
        await asyncio.wait({task}, timeout=_KILL_SECONDS)
        if task.done():
            await asyncio.gather(task, return_exceptions=True)
        else:
            _log.error("etcd (process %s) was killed and does not end: it waits for its disk", self.pid)

    # -- inside

    async def _supervise(self, program: str) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping:
            began = asyncio.get_running_loop().time()
            try:
                code = await self._run(program)
            except OSError as error:
                code, reason = -1, str(error)
                self._last_lines.append(reason)
            if self._stopping:
                return
            if self._restarting:
                self._restarting = False
                continue
            self.crashes += 1
            self.last_crash = self.last_words
            if asyncio.get_running_loop().time() - began > _WELL_AFTER:
                pause = _FIRST_PAUSE
            _log.error("etcd ended (%s): %s; again in %.1f s", code, self.last_words, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _run(self, program: str) -> int:
        self.started_with = await asyncio.to_thread(_read, self.settings.tls.ca)
        command = etcd_program.command_line(program, self.settings, force_new_cluster=self._force_new_cluster)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=etcd_program.environment(),
            cwd=self.settings.data_dir,
            limit=_LINE_BYTES,
            # Signals of a terminal are for the daemon, which then stops the member in its order.
            start_new_session=True,
        )
        self._process = process
        self._started.set()
        self._last_lines.clear()
        self._panicked = False
        _log.info("etcd member %s runs as process %d", self.settings.name, process.pid)
        try:
            if process.stderr is not None:
                await self._pipe(process.stderr)
            return await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    async def _pipe(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # a line beyond the limit: what follows is read on
                continue
            if not line:
                return
            self._note(line)

    def _note(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        try:
            entry = msgspec.json.decode(line, type=dict[str, object])
        except msgspec.DecodeError:
            # Not a log line: a panic with its stack, or the words of setpriv.
            if self._panicked:
                return
            self._panicked = text.startswith("panic:")
            entry = {"level": "panic", "msg": text}
        if entry.get("level") not in ("debug", "info", "warn"):
            words = str(entry.get("msg", text))
            if entry.get("error"):
                words += f": {entry['error']}"
            if words and not words.startswith(("goroutine ", "\t", "created by ", "WARNING: ")):
                self._last_lines.append(words[:300])
        _log.debug("etcd: %s", text)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
