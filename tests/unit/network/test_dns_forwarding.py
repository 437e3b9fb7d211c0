"""Questions that are passed on: whom to believe, and what to do with resolvers that are slow, broken or dead."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable

import pytest

from enxame.network import dns_forwarding
from enxame.network.dns_forwarding import Unanswered, forward

QUESTION = b"\3far\7example\0\0\1\0\1"
ASKED = b"\x12\x34\x01\x00" + struct.pack("!HHHH", 1, 0, 0, 0) + QUESTION
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
TRUNCATED = 0x02


def reply(message: bytes, code: int, *, flags: int = 0, extra: bytes = b"") -> bytes:
    return message[:2] + bytes((0x81 | flags, 0x80 | code)) + message[4:12] + QUESTION + extra


class Servers:
    """Resolvers at 127.0.0.<number>, each of which does with a question what it is told; none anywhere else."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.tasks: list[asyncio.Task[None]] = []
        self.sockets: list[socket.socket] = []

    def add(self, number: int, answers: Callable[[bytes], list[bytes]]) -> str:
        address = f"127.0.0.{number}"
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((address, self.port))
        udp.setblocking(False)
        self.sockets.append(udp)
        self.tasks.append(asyncio.create_task(self._serve(udp, answers)))
        return address

    @staticmethod
    async def _serve(udp: socket.socket, answers: Callable[[bytes], list[bytes]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            message, source = await loop.sock_recvfrom(udp, 4096)
            for answer in answers(message):
                await loop.sock_sendto(udp, answer, source)


@pytest.fixture
async def servers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Servers]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("", 0))
        made = Servers(free.getsockname()[1])
    monkeypatch.setattr(dns_forwarding, "_PORT", made.port)
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)
    for opened in made.sockets:
        opened.close()


async def new_socket(family: int, kind: int) -> socket.socket:
    made = socket.socket(family, kind)
    made.setblocking(False)
    return made


async def asked(*addresses: str) -> bytes:
    async with asyncio.timeout(30):
        return await forward(ASKED, addresses, new_socket, over_tcp=False)


@pytest.mark.parametrize("code", [SERVFAIL, REFUSED])
async def test_a_resolver_that_fails_or_refuses_is_passed_over(servers: Servers, code: int) -> None:
    broken = servers.add(2, lambda message: [reply(message, code)])
    good = servers.add(3, lambda message: [reply(message, NOERROR, extra=b"good")])
    assert await asked(broken, good) == reply(ASKED, NOERROR, extra=b"good")
    # Where all fail the client hears what they said.
    assert await asked(broken, broken) == reply(ASKED, code)


async def test_that_there_is_no_such_name_is_an_answer(servers: Servers) -> None:
    knowing = servers.add(2, lambda message: [reply(message, NXDOMAIN)])
    other = servers.add(3, lambda message: [reply(message, NOERROR)])
    assert await asked(knowing, other) == reply(ASKED, NXDOMAIN)


async def test_a_truncated_answer_stays_one_so_that_the_client_asks_over_tcp(servers: Servers) -> None:
    large = servers.add(2, lambda message: [reply(message, NOERROR, flags=TRUNCATED)])
    assert await asked(large) == reply(ASKED, NOERROR, flags=TRUNCATED)


async def test_what_does_not_belong_to_the_question_is_ignored(servers: Servers) -> None:
    def chatty(message: bytes) -> list[bytes]:
        other = bytes((message[0] ^ 1,)) + message[1:]
        return [b"", b"short", message, reply(other, NOERROR, extra=b"forged"), reply(message, NOERROR, extra=b"true")]

    assert await asked(servers.add(2, chatty)) == reply(ASKED, NOERROR, extra=b"true")


async def test_silent_and_absent_resolvers_cost_their_time_and_no_more(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_forwarding, "_ANSWER_DEADLINE", 0.1)
    silent = servers.add(2, lambda _: [])
    good = servers.add(3, lambda message: [reply(message, NOERROR)])
    absent = "127.0.0.4"
    assert await asked(silent, absent, good) == reply(ASKED, NOERROR)
    with pytest.raises(Unanswered):
        await asked(silent, absent)
    with pytest.raises(Unanswered):
        await asked()
