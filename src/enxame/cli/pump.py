"""Joins this process's stdin, stdout and stderr with a hijacked connection until the other side ends."""

import errno
import os
import selectors
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import FrameType
from typing import Final

from enxame.cli.client import Hijacked, wants_more
from enxame.cli.multiplexed import Demultiplexer
from enxame.cli.terminal import DetachKeys, raw_mode

_CHUNK: Final = 1 << 16
#: Bytes of input that may wait for the daemon before no more is read.
_BACKLOG: Final = 1 << 18
#: Signals that end this process in ways that cannot be passed on, or that mean something to it alone.
_NOT_PROXIED: Final = frozenset(
    {signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
)


@dataclass
class Wiring:
    """What is joined, and what happens meanwhile.

    ``on_resize`` is called at the start and whenever the terminal changes; ``on_signal`` for signals to be passed on.
    """

    connection: Hijacked
    tty: bool
    stdin: bool
    stdout: bool = True
    stderr: bool = True
    detach_keys: bytes = b""
    on_resize: Callable[[], None] | None = None
    on_signal: Callable[[signal.Signals], None] | None = None


class Pump:
    """Runs one Wiring."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._sock = wiring.connection.sock
        self._selector = selectors.DefaultSelector()
        self._demultiplexer = Demultiplexer()
        self._detach = DetachKeys(wiring.detach_keys) if wiring.detach_keys and wiring.tty else None
        self._outgoing = bytearray()
        self._input_open = wiring.stdin
        self._detached = False

    def run(self) -> bool:
        """Returns when the output has ended: False; or when the user detached: True."""
        with ExitStack() as stack:
            stack.callback(self._selector.close)
            stack.callback(self._wiring.connection.close)
            wake = self._catch_signals(stack)
            if self._wiring.tty and self._wiring.stdin and sys.stdin.isatty():
                stack.enter_context(raw_mode(sys.stdin.fileno()))
            sys.stdout.flush()
            sys.stderr.flush()
            self._sock.setblocking(False)
            self._selector.register(self._sock, selectors.EVENT_READ)
            self._selector.register(wake, selectors.EVENT_READ)
            self._watch_input()
            if self._wiring.on_resize:
                self._wiring.on_resize()
            early = self._wiring.connection.early_bytes()
            if early:
                self._show(early)
            if not self._receive():
                return self._detached
            self._loop(wake)
        return self._detached

    def _loop(self, wake: int) -> None:
        while not self._detached:
            for key, events in self._selector.select():
                if key.fd == wake:
                    self._signals(os.read(wake, 64))
                elif key.fileobj is self._sock:
                    if events & selectors.EVENT_WRITE:
                        self._send()
                    if events & selectors.EVENT_READ and not self._receive():
                        return
                else:
                    self._read_input(key.fd)

    # -- input --------------------------------------------------------------------------------------------------------

    def _watch_input(self) -> None:
        if not self._input_open:
            return
        try:
            self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        except PermissionError:
            # A plain file cannot be waited for: it is always ready, and read in one go.
            while data := os.read(sys.stdin.fileno(), _CHUNK):
                self._outgoing += data
            self._end_input()
            self._send()

    def _read_input(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, _CHUNK)
        except OSError as problem:
            if problem.errno in {errno.EAGAIN, errno.EINTR}:
                return
            data = b""
        if not data:
            self._selector.unregister(descriptor)
            self._end_input()
            self._send()
            return
        if self._detach:
            data, self._detached = self._detach.feed(data)
        self._outgoing += data
        if len(self._outgoing) > _BACKLOG:
            self._selector.unregister(descriptor)
        self._send()

    def _end_input(self) -> None:
        self._input_open = False

    def _send(self) -> None:
        try:
            while self._outgoing:
                sent = self._sock.send(self._outgoing[:_CHUNK])
                del self._outgoing[:sent]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as problem:
            if problem.errno in {errno.EPIPE, errno.ECONNRESET, errno.EBADF}:
                self._outgoing.clear()
            elif not wants_more(problem):
                raise
        waiting = bool(self._outgoing)
        self._selector.modify(self._sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if waiting else 0))
        if not waiting and not self._input_open and self._wiring.stdin:
            self._wiring.stdin = False
            self._wiring.connection.half_close()
        elif not waiting and self._input_open and sys.stdin.fileno() not in self._selector.get_map():
            self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)

    # -- output -------------------------------------------------------------------------------------------------------

    def _receive(self) -> bool:
        """Shows all that has come; False at the end."""
        while True:
            try:
                data = self._sock.recv(_CHUNK)
            except (BlockingIOError, InterruptedError):
                return True
            except OSError as problem:
                return wants_more(problem)
            if not data:
                return False
            self._show(data)

    def _show(self, data: bytes) -> None:
        if self._wiring.tty:
            _write(1, data)
            return
        for number, content in self._demultiplexer.feed(data):
            if number == 2:
                if self._wiring.stderr:
                    _write(2, content)
            elif self._wiring.stdout:
                _write(1, content)

    # -- signals ------------------------------------------------------------------------------------------------------

    def _catch_signals(self, stack: ExitStack) -> int:
        read, write = os.pipe()
        os.set_blocking(write, False)
        stack.callback(os.close, read)
        stack.callback(os.close, write)
        wanted: set[signal.Signals] = set()
        if self._wiring.on_resize:
            wanted.add(signal.SIGWINCH)
        if self._wiring.on_signal:
            wanted |= {s for s in signal.valid_signals() if isinstance(s, signal.Signals)} - _NOT_PROXIED
            wanted -= {
                signal.SIGKILL,
                signal.SIGSTOP,
                signal.SIGSEGV,
                signal.SIGBUS,
                signal.SIGFPE,
                signal.SIGILL,
                signal.SIGABRT,
            }
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(write, warn_on_full_buffer=False))
        for number in wanted:
            try:
                stack.callback(signal.signal, number, signal.signal(number, _ignore))
            except (OSError, ValueError):
                continue
        return read

    def _signals(self, numbers: bytes) -> None:
        for number in numbers:
            caught = signal.Signals(number)
            if caught == signal.SIGWINCH and self._wiring.on_resize:
                self._wiring.on_resize()
            elif self._wiring.on_signal and caught not in _NOT_PROXIED:
                self._wiring.on_signal(caught)


def _ignore(number: int, frame: FrameType | None) -> None:
    """The wake-up descriptor tells the pump; nothing is to be done here."""


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            selectors.DefaultSelector().select(0.01)
