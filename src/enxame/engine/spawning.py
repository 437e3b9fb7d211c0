"""Starting a program without holding up anything: ``posix_spawn`` (a ``vfork``, nothing of a big process is copied)
called from a thread that lets go of the interpreter. Python's own keeps the interpreter until the child has reached
its program, which on a busy machine takes as long as the scheduler likes.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

__all__ = ["Program", "start_program"]

#: Python ignores these; children must not inherit that.
_RESTORED: Final = (signal.SIGPIPE, signal.SIGXFSZ)
_SETSIGDEF: Final = 0x04
_SETSID: Final = 0x80
#: Bytes for glibc's opaque structures, of which the largest takes 336.
_OPAQUE: Final = 1024

#: So many programs are started at once.
STARTERS: Final = 4
starters = ThreadPoolExecutor(max_workers=STARTERS, thread_name_prefix="spawn")


@dataclass(frozen=True, slots=True)
class Program:
    """What is started: ``argv[0]``, looked for in our own PATH when it is no path. Streams that are None are
    ``/dev/null``; ``inherit`` are further descriptors that it gets under the same numbers.
    """

    argv: Sequence[str]
    streams: tuple[int | None, int | None, int | None]
    inherit: Sequence[int]
    env: Mapping[str, str]
    new_session: bool


async def start_program(program: Program) -> int:
    """Start it and return its pid. Its descriptors must stay open until this returns, which also a cancellation waits
    for; what it has started by then is killed.

    Raises:
        OSError: it could not be started.
    """
    call = asyncio.get_running_loop().run_in_executor(starters, _start, program)
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait({call})
        if call.exception() is None:
            os.kill(call.result(), signal.SIGKILL)
            await asyncio.to_thread(os.waitpid, call.result(), 0)
        raise


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _checked(error: int, what: str) -> None:
    if error:
        raise OSError(error, os.strerror(error), what)


def _start(program: Program) -> int:
    libc, name = _libc(), program.argv[0]
    actions, attributes = (ctypes.create_string_buffer(_OPAQUE) for _ in range(2))
    _checked(libc.posix_spawn_file_actions_init(actions), name)
    try:
        _checked(libc.posix_spawnattr_init(attributes), name)
        try:
            _describe_streams(libc, actions, program)
            _describe_signals(libc, attributes, program)
            pid = ctypes.c_int()
            words = _c_array([os.fsencode(word) for word in program.argv])
            variables = _c_array([os.fsencode(f"{key}={value}") for key, value in program.env.items()])
            _checked(libc.posix_spawnp(ctypes.byref(pid), words[0], actions, attributes, words, variables), name)
            return pid.value
        finally:
            libc.posix_spawnattr_destroy(attributes)
    finally:
        libc.posix_spawn_file_actions_destroy(actions)


def _describe_streams(libc: ctypes.CDLL, actions: Any, program: Program) -> None:
    name = program.argv[0]
    for target, source in enumerate(program.streams):
        if source is None:
            _checked(libc.posix_spawn_file_actions_addopen(actions, target, b"/dev/null", os.O_RDWR, 0), name)
        else:
            _checked(libc.posix_spawn_file_actions_adddup2(actions, source, target), name)
    for number in program.inherit:
        _checked(libc.posix_spawn_file_actions_adddup2(actions, number, number), name)


def _describe_signals(libc: ctypes.CDLL, attributes: Any, program: Program) -> None:
    name = program.argv[0]
    default = ctypes.create_string_buffer(128)  # a sigset_t
    libc.sigemptyset(default)
    for number in _RESTORED:
        libc.sigaddset(default, int(number))
    _checked(libc.posix_spawnattr_setsigdefault(attributes, default), name)
    flags = _SETSIGDEF | (_SETSID if program.new_session else 0)
    _checked(libc.posix_spawnattr_setflags(attributes, ctypes.c_short(flags)), name)


def _c_array(values: list[bytes]) -> Any:
    for value in values:
        if b"\0" in value:
            raise ValueError("embedded null byte")
    return (ctypes.c_char_p * (len(values) + 1))(*values, None)
