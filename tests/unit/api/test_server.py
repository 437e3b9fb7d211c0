"""Listeners: the socket file and its rights, dead and living predecessors, many idle clients, shutdown."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest


async def test_the_socket_is_for_owner_and_group_alone(served: Any) -> None:
    assert stat.S_IMODE(served.path.stat().st_mode) == 0o660


async def test_the_group_is_as_asked(served: Any, tmp_path: Path) -> None:
    path = tmp_path / "grouped.sock"
    await served.server.listen_unix(path, group=os.getgid())
    assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (os.getgid(), 0o660)


async def test_an_unknown_group_is_an_error(served: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        await served.server.listen_unix(tmp_path / "x.sock", group="no-such-group")


async def test_a_dead_daemons_socket_is_replaced(served: Any, tmp_path: Path) -> None:
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    await served.server.listen_unix(path)
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    writer.close()


async def test_a_living_daemons_socket_is_not(served: Any) -> None:
    with pytest.raises(OSError, match="another daemon is listening"):
        await served.server.listen_unix(served.path)
    assert (await served.get("/_ping")).status == 200


async def test_a_file_that_is_no_socket_is_not_removed(served: Any, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(FileExistsError):
        await served.server.listen_unix(path)
    assert path.read_text() == "data"


async def test_tcp_serves_too(served: Any) -> None:
    port = await served.server.listen_tcp("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    writer.close()


async def test_hundreds_of_idle_clients_do_not_keep_others_out(served: Any) -> None:
    idle = [await asyncio.open_unix_connection(str(served.path)) for _ in range(300)]
    assert (await served.get("/_ping")).status == 200
    for _, writer in idle:
        writer.close()


async def test_garbage_is_refused_and_the_server_goes_on(served: Any) -> None:
    reader, writer = await asyncio.open_unix_connection(str(served.path))
    writer.write(b"\x16\x03\x01 what is this\r\n\r\n")
    async with asyncio.timeout(5):
        assert b" 400 " in await reader.readline()
    writer.close()
    assert (await served.get("/_ping")).status == 200


async def test_close_removes_the_socket_and_lets_a_request_finish(served: Any) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow(ref: str, **_: Any) -> None:
        started.set()
        await go_on.wait()

    served.engine.containers.stop = slow
    request = asyncio.ensure_future(served.post("/containers/box/stop"))
    await started.wait()
    closing = asyncio.ensure_future(served.server.close(deadline=5))
    while served.path.exists():
        await asyncio.sleep(0)
    go_on.set()
    assert (await request).status == 204
    async with asyncio.timeout(8):
        await closing


async def test_a_change_is_carried_out_though_the_client_leaves(served: Any) -> None:
    started, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(ref: str, **_: Any) -> None:
        started.set()
        await go_on.wait()
        done.set()

    served.engine.containers.stop = slow
    _, writer = await asyncio.open_unix_connection(str(served.path))
    writer.write(b"POST /containers/box/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    await started.wait()
    writer.close()
    await writer.wait_closed()
    go_on.set()
    async with asyncio.timeout(5):
        await done.wait()
