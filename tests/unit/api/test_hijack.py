"""Attach and exec over raw sockets: upgrade, frames, half-close, departure of either side."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"


async def opened(
    served: Any, path: str, extra: str = UPGRADE, body: str = ""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    reader, writer = await asyncio.open_unix_connection(str(served.path))
    kind = "Content-Type: application/json\r\n" if body else ""
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: docker\r\n{kind}{extra}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
    return reader, writer, head.decode()


async def rest(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await reader.read()


async def test_output_is_framed_and_half_close_ends_stdin_alone(served: Any) -> None:
    reader, writer, head = await opened(served, "/v1.41/containers/box/attach?stream=1&stdin=1&stdout=1&stderr=1")
    assert head == (
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
        "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    )
    writer.write(b"hello\n")
    async with asyncio.timeout(5):
        assert await reader.readexactly(14) == b"\x01\0\0\0\0\0\0\x06hello\n"
    writer.write_eof()
    assert await rest(reader) == b"\x02\0\0\0\0\0\0\x04bye\n"
    attachment = served.engine.containers.attachments[0]
    async with asyncio.timeout(5):
        await attachment.closed.wait()
    writer.close()


@pytest.mark.parametrize(
    ("tty", "version", "kind"),
    [(False, "v1.42", "multiplexed-stream"), (True, "v1.42", "raw-stream"), (False, "v1.41", "raw-stream")],
)
async def test_content_type_tells_the_kind_of_stream(served: Any, tty: bool, version: str, kind: str) -> None:
    served.engine.containers.tty = tty
    reader, writer, head = await opened(served, f"/{version}/containers/box/attach?stream=1&stdin=1&stdout=1")
    assert f"Content-Type: application/vnd.docker.{kind}\r\n" in head
    writer.write_eof()
    assert await rest(reader) == (b"bye\n" if tty else b"\x02\0\0\0\0\0\0\x04bye\n")
    writer.close()


async def test_a_client_that_asks_no_upgrade_gets_200_and_the_same_stream(served: Any) -> None:
    reader, writer, head = await opened(served, "/containers/box/attach?stream=1&stdin=1&stdout=1", extra="")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    writer.write(b"x")
    writer.write_eof()
    assert (await rest(reader)).startswith(b"\x01\0\0\0\0\0\0\x01x")
    writer.close()


async def test_megabytes_pass_in_both_directions(served: Any) -> None:
    served.engine.containers.tty = True
    reader, writer, _ = await opened(served, "/containers/box/attach?stream=1&stdin=1&stdout=1")
    block = bytes(range(32, 256)) * 4096

    async def send() -> None:
        for _ in range(8):
            writer.write(block)
            await writer.drain()
        writer.write_eof()

    sending = asyncio.ensure_future(send())
    assert await rest(reader) == block * 8 + b"bye\n"
    await sending
    writer.close()


async def test_a_client_that_vanishes_ends_the_attachment(served: Any) -> None:
    _, writer, _ = await opened(served, "/containers/box/attach?stream=1&stdout=1")
    writer.close()
    async with asyncio.timeout(10):
        await served.engine.containers.attachments[0].closed.wait()
    assert not served.engine.containers.attachments[0].stdin_closed


async def test_stdin_that_was_not_asked_for_is_dropped(served: Any) -> None:
    _, writer, _ = await opened(served, "/containers/box/attach?stream=1&stdout=1")
    writer.write(b"who listens?")
    writer.close()
    attachment = served.engine.containers.attachments[0]
    async with asyncio.timeout(10):
        await attachment.closed.wait()
    assert attachment._out.empty()


async def test_an_error_before_the_upgrade_is_plain_http(served: Any) -> None:
    reader, writer, head = await opened(served, "/containers/ghost/attach?stream=1")
    assert head.startswith("HTTP/1.1 404 Not Found\r\n")
    assert b"No such container: ghost" in await reader.readuntil(b"}")
    writer.close()


async def test_exec_start_takes_over_too(served: Any) -> None:
    reader, writer, head = await opened(served, f"/exec/{'e' * 64}/start", body='{"Tty": false}')
    assert head.startswith("HTTP/1.1 101 UPGRADED\r\n")
    writer.write(b"ls\n")
    writer.write_eof()
    assert await rest(reader) == b"\x01\0\0\0\0\0\0\x03ls\n\x02\0\0\0\0\0\0\x04bye\n"
    writer.close()


async def test_shutdown_ends_an_open_stream(served: Any) -> None:
    reader, writer, _ = await opened(served, "/containers/box/attach?stream=1&stdin=1&stdout=1")
    async with asyncio.timeout(8):
        await served.server.close(deadline=0.2)
        await reader.read()
        await served.engine.containers.attachments[0].closed.wait()
    writer.close()


async def test_detach_keys_leave_a_terminal_and_close_nothing(served: Any) -> None:
    served.engine.containers.tty = True
    reader, writer, _ = await opened(served, "/containers/box/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,x")
    writer.write(b"ls\x01x")
    assert await rest(reader) in (b"ls", b"")
    attachment = served.engine.containers.attachments[0]
    assert attachment.closed.is_set()
    assert not attachment.stdin_closed
    writer.close()


async def test_detach_keys_that_are_none_are_refused(served: Any) -> None:
    path = "/containers/box/attach?stream=1&detachKeys=shift-a"
    assert await served.message("POST", path) == (400, "Invalid detach keys (shift-a) provided")
