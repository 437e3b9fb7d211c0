from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from enxame.engine import spawning
from enxame.engine.children import PIPE, STDOUT, child
from enxame.engine.processes import spawn
from enxame.errors import EnxameError


def open_descriptors() -> set[str]:
    """Without the loop's own and those of this look."""
    return {os.readlink(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd") if _is_pipe(one)}


def _is_pipe(number: str) -> bool:
    with suppress(OSError):
        return os.readlink(f"/proc/self/fd/{number}").startswith("pipe:")
    return False


def _lives(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


async def test_what_a_tool_says_and_how_it_ends_is_known() -> None:
    async with child("sh", "-c", "cat; echo complaint >&2; exit 7", stdin=PIPE, stdout=PIPE, stderr=PIPE) as tool:
        assert await tool.communicate(b"x" * 300_000) == (b"x" * 300_000, b"complaint\n")
        assert tool.returncode == 7


async def test_streams_that_nobody_wants_lead_nowhere() -> None:
    async with child("sh", "-c", "cat; echo lost; readlink /proc/self/fd/0 >&2", stderr=PIPE) as tool:
        assert await tool.communicate() == (b"", b"/dev/null\n")


async def test_both_outputs_may_share_a_pipe() -> None:
    async with child("sh", "-c", "echo one; echo two >&2", stdout=PIPE, stderr=STDOUT) as tool:
        assert await tool.communicate() == (b"one\ntwo\n", b"")


async def test_a_tool_has_only_the_environment_and_the_descriptors_it_is_given() -> None:
    read_end, write_end = os.pipe()
    os.set_inheritable(read_end, False)
    try:
        script = f"env | grep -c SECRET; ls /proc/self/fd | tr '\\n' ' '; echo heard > /proc/self/fd/{write_end}"
        env = {"PATH": os.environ["PATH"], "A": "ç"}
        async with child("sh", "-c", script, stdout=PIPE, env=env, inherit=(write_end,)) as tool:
            said, _ = await tool.communicate()
        assert said.split()[0] == b"0"
        assert str(read_end).encode() not in said.split()[1:]
        assert os.read(read_end, 100) == b"heard\n"
    finally:
        os.close(read_end)
        os.close(write_end)


async def test_a_tool_reacts_to_signals_that_python_ignores() -> None:
    script = "grep SigIgn /proc/self/status"
    async with child("sh", "-c", script, stdout=PIPE) as tool:
        said, _ = await tool.communicate()
    assert not int(said.split()[1], 16) & (1 << (signal.SIGPIPE - 1))


async def test_a_tool_ends_with_its_block() -> None:
    before = open_descriptors()
    async with child("sleep", "1000", stdin=PIPE, stdout=PIPE, stderr=PIPE) as tool:
        pid = tool._process.pid
    assert tool.returncode == 128 + signal.SIGKILL
    assert not _lives(pid)
    await asyncio.sleep(0)
    assert open_descriptors() <= before


async def test_a_tool_that_reads_no_more_is_not_fed_on() -> None:
    async with child("true", stdin=PIPE) as tool:
        await tool.write(b"x" * 1_000_000)
        assert await tool.wait() == 0


async def test_a_tool_that_is_not_there_is_told_from_one_that_cannot_be_run(tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(FileNotFoundError):
        async with child("no-such-tool", stdout=PIPE):
            pass
    plain = tmp_path / "plain"
    plain.write_text("")
    with pytest.raises(EnxameError, match=r"cannot start .*plain: permission denied"):
        async with child(str(plain), stdin=PIPE, stdout=PIPE):
            pass
    assert open_descriptors() <= before


async def test_nothing_goes_on_of_a_start_that_was_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()
    real, pids = spawning._start, []

    def slow(*arguments: object, **options: object) -> int:
        begun.set()
        go.wait(60)
        pids.append(real(*arguments, **options))  # type: ignore[arg-type]
        return pids[0]

    monkeypatch.setattr(spawning, "_start", slow)
    starting = asyncio.ensure_future(spawn(["/bin/sleep", "1000"]))
    await asyncio.to_thread(begun.wait, 60)
    starting.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not _lives(pids[0])


async def test_the_loop_turns_while_a_program_is_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel lets the thread that starts a program wait until it has been reached."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def held_up(libc: Any, actions: Any, *_: object) -> None:
        libc.posix_spawn_file_actions_addopen(actions, 0, os.fsencode(fifo), os.O_RDONLY, 0)

    monkeypatch.setattr(spawning, "_describe_streams", held_up)
    starting = asyncio.ensure_future(spawn(["/bin/true"]))
    async with asyncio.timeout(60):
        while True:
            await asyncio.sleep(0.01)
            assert not starting.done()
            with suppress(OSError):  # nobody reads yet: the child has not come that far
                os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
                break
        assert await (await starting).wait() == 0
