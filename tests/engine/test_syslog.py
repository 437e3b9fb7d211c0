"""The log driver syslog: every line once, also when the server or the daemon was away."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from enxame.model.container import HostConfig, LogConfig


class Server:
    """A syslog server on a datagram socket."""

    def __init__(self, path):
        self.path = str(path)
        self.lines = []
        self._socket = None

    def open(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(self.path)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self):
        while True:
            try:
                self.lines.append(self._socket.recv(65536).decode().rstrip("\n").partition("]: ")[2])
            except BlockingIOError:
                return

    def close(self):
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    async def has(self, *lines, ordered=True):
        async with asyncio.timeout(60):
            while len(self.lines) < len(lines):
                await asyncio.sleep(0.02)
        assert (self.lines if ordered else sorted(self.lines)) == list(lines)


@pytest.fixture
async def server(tmp_path):
    made = Server(tmp_path / "log.sock")
    made.open()
    yield made
    made.close()


def to(server, **more):
    address = {"syslog-address": f"unixgram://{server.path}", **more}
    return HostConfig(log_config=LogConfig(type="syslog", config=address))


async def test_lines_of_both_streams_go_to_the_server_and_stay_readable(engine, server):
    ref = await engine.run("sh", "-c", "echo one; echo two >&2; echo three", host=to(server), name="box")
    await engine.containers.wait(ref)
    await server.has("one", "three", "two", ordered=False)
    assert sorted((await engine.text(ref)).split()) == ["one", "three", "two"]


async def test_lines_go_again_when_the_server_is_back_and_none_goes_twice(engine, server):
    ref = await engine.run("sh", "-c", "echo one; while [ ! -e /go ]; do usleep 20000; done; echo two", host=to(server))
    await server.has("one")
    server.close()
    upper = engine.images.root / ref / "merged"
    (upper / "go").touch()
    await engine.containers.wait(ref)
    server.open()
    await server.has("one", "two")


async def test_a_daemon_that_was_away_sends_what_was_written_meanwhile(engine, server):
    ref = await engine.run(
        "sh", "-c", "echo a; echo b; while [ ! -e /go ]; do usleep 20000; done; echo c; echo d", host=to(server)
    )
    await server.has("a", "b")
    await engine.containers.close()
    (engine.images.root / ref / "merged" / "go").touch()
    pid = next(iter((engine.root / "data/containers" / ref).glob("container.log")))
    async with asyncio.timeout(60):
        while b" d" not in pid.read_bytes():
            await asyncio.sleep(0.02)
    await engine.open()
    await server.has("a", "b", "c", "d")


async def test_half_a_line_at_a_restart_is_sent_whole_and_once(engine, server):
    script = "echo one; printf 'begin '; echo told >&2; while [ ! -e /go ]; do usleep 20000; done; echo end; echo two"
    ref = await engine.run("sh", "-c", script, host=to(server))
    await server.has("one", "told", ordered=False)
    await engine.containers.close()
    await engine.open()
    (engine.images.root / ref / "merged" / "go").touch()
    await engine.containers.wait(ref)
    await server.has("begin end", "one", "told", "two", ordered=False)


async def test_a_last_line_without_its_end_makes_no_other_go_twice(engine, server):
    ref = await engine.run("sh", "-c", "printf 'begun'; sleep 0.05; echo told >&2", host=to(server))
    await engine.containers.wait(ref)
    await server.has("begun", "told", ordered=False)
    await engine.containers.close()
    await engine.open()
    third = await engine.run("echo", "third", host=to(server))
    await engine.containers.wait(third)
    await server.has("begun", "third", "told", ordered=False)


async def test_the_last_lines_of_a_container_that_goes_with_its_end_are_sent(engine, server):
    host = HostConfig(auto_remove=True, log_config=to(server).log_config)
    ref = await engine.run("sh", "-c", "echo last words", host=host)
    await engine.containers.wait(ref, "removed")
    await server.has("last words")
