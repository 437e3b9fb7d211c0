"""The TLS listener: who gets in, and half-close in both directions."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from enxame.api import tls
from tests.papers import make_papers


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_papers(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def port(served: Any, papers: Path) -> int:
    context = tls.server_context(str(papers / "server.pem"), str(papers / "server-key.pem"), str(papers / "ca.pem"))
    return await served.server.listen_tcp("127.0.0.1", 0, tls=context)


def _client(papers: Path, name: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(papers / "ca.pem"))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if name:
        context.load_cert_chain(papers / f"{name}.pem", papers / f"{name}-key.pem")
    return context


def _ping(papers: Path, port: int, name: str | None) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection("localhost", port, context=_client(papers, name), timeout=5)
    try:
        connection.request("GET", "/_ping")
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


async def test_a_client_with_a_certificate_of_the_ca_gets_in(papers: Path, port: int) -> None:
    assert await asyncio.to_thread(_ping, papers, port, "client") == (200, b"OK")


@pytest.mark.parametrize("name", [None, "stranger"])
async def test_others_do_not(papers: Path, port: int, name: str | None) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        await asyncio.to_thread(_ping, papers, port, name)


async def test_plain_http_is_refused_and_the_listener_goes_on(papers: Path, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(5):
        assert b"200 OK" not in await reader.read()
    writer.close()
    assert await asyncio.to_thread(_ping, papers, port, "client") == (200, b"OK")


def _attach(papers: Path, port: int, payload: bytes) -> bytes:
    """A client that sends, closes its direction of TLS, and then reads to the end: as ``docker --tls run -i`` does."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    channel = _client(papers, "client").wrap_bio(incoming, outgoing, server_hostname="localhost")

    def flush() -> None:
        raw.sendall(outgoing.read())

    def fill() -> None:
        data = raw.recv(65536)
        if data:
            incoming.write(data)
        else:
            incoming.write_eof()

    while True:
        try:
            channel.do_handshake()
            break
        except ssl.SSLWantReadError:
            flush()
            fill()
    channel.write(
        b"POST /containers/box/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\n"
        b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    )
    flush()
    received = b""
    while b"\r\n\r\n" not in received:
        try:
            received += channel.read(65536)
        except ssl.SSLWantReadError:
            fill()
    channel.write(payload)
    with suppress(ssl.SSLError):
        channel.unwrap()  # writes close_notify
    flush()
    while True:
        try:
            data = channel.read(65536)
            if not data:
                break
            received += data
        except ssl.SSLWantReadError:
            fill()
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            break
    raw.close()
    return received.partition(b"\r\n\r\n")[2]


async def test_output_arrives_after_the_client_has_closed_its_direction(served: Any, papers: Path, port: int) -> None:
    served.engine.containers.tty = True
    payload = bytes(range(32, 256)) * 32
    async with asyncio.timeout(20):
        assert await asyncio.to_thread(_attach, papers, port, payload) == payload + b"bye\n"


async def test_a_silent_client_is_dropped_after_the_handshake_timeout(
    served: Any, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
