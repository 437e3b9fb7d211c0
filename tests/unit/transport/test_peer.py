"""Calls and streams over one link, on a plain socket pair."""

import asyncio
import contextlib
import socket
from contextlib import aclosing

import pytest

from enxame.errors import Conflict, InvalidArgument, PermissionDenied, Unavailable, Unimplemented
from enxame.transport import frames
from enxame.transport.frames import Frame, Kind
from enxame.transport.methods import ANYBODY, MANAGERS, Heartbeat, Method, Nothing, RootCertificate
from enxame.transport.peer import WINDOW, Peer, Served

ECHO = Method("test.echo", ANYBODY, RootCertificate, RootCertificate)
FAIL = Method("test.fail", ANYBODY, Nothing, Nothing)
BUG = Method("test.bug", ANYBODY, Nothing, Nothing)
HANG = Method("test.hang", ANYBODY, Nothing, Nothing)
COUNT = Method("test.count", ANYBODY, Heartbeat, Heartbeat, stream=True)
SECRET = Method("test.secret", MANAGERS, Nothing, Nothing)
BACK = Method("test.back", ANYBODY, Nothing, RootCertificate)
DEADLINE = 5.0


class Service:
    def __init__(self):
        self.produced = 0
        self.ended = asyncio.Event()
        self.hanging = asyncio.Event()
        self.served = Served()
        self.served.call(ECHO, self.echo)
        self.served.call(FAIL, self.fail)
        self.served.call(BUG, self.bug)
        self.served.call(HANG, self.hang)
        self.served.call(SECRET, self.secret)
        self.served.call(BACK, self.back)
        self.served.stream(COUNT, self.count)

    async def echo(self, peer, request):
        return request

    async def fail(self, peer, request):
        raise Conflict("taken")

    async def bug(self, peer, request):
        raise KeyError("oops")

    async def hang(self, peer, request):
        self.hanging.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def secret(self, peer, request):
        return Nothing()

    async def back(self, peer, request):
        return await peer.call(ECHO, RootCertificate(root="from the server"))

    async def count(self, peer, request):
        try:
            for number in range(int(request.period)):
                self.produced = number + 1
                yield Heartbeat(period=float(number))
        finally:
            self.ended.set()


@pytest.fixture
async def link():
    """A client peer and the service that it talks to."""
    service = Service()
    ends = socket.socketpair()
    streams = [await asyncio.open_connection(sock=end) for end in ends]
    client_side = Served()
    client_side.call(ECHO, service.echo)
    client = Peer(*streams[0], client_side)
    server = Peer(*streams[1], service.served)
    running = [asyncio.ensure_future(peer.run()) for peer in (client, server)]
    yield client, server, service
    client.close()
    server.close()
    async with asyncio.timeout(DEADLINE):
        await asyncio.wait(running)


async def test_an_answer_comes_back(link):
    client, _, _ = link
    assert (await client.call(ECHO, RootCertificate(root="hello"))).root == "hello"


async def test_many_calls_run_at_once(link):
    client, _, _ = link
    answers = await asyncio.gather(*(client.call(ECHO, RootCertificate(root=str(n))) for n in range(100)))
    assert [answer.root for answer in answers] == [str(n) for n in range(100)]


async def test_the_server_may_call_back(link):
    client, _, _ = link
    assert (await client.call(BACK, Nothing())).root == "from the server"


async def test_errors_keep_their_class_and_message(link):
    client, _, _ = link
    with pytest.raises(Conflict, match="taken"):
        await client.call(FAIL, Nothing())


async def test_a_bug_is_an_error_and_the_link_goes_on(link):
    client, _, _ = link
    with pytest.raises(Exception, match="internal error"):
        await client.call(BUG, Nothing())
    assert (await client.call(ECHO, RootCertificate(root="x"))).root == "x"


async def test_unknown_methods_and_wrong_roles_are_refused(link):
    client, _, _ = link
    with pytest.raises(Unimplemented):
        await client.call(Method("test.nosuch", ANYBODY, Nothing, Nothing), Nothing())
    with pytest.raises(PermissionDenied, match="without a certificate"):
        await client.call(SECRET, Nothing())


async def test_a_request_of_the_wrong_type_is_refused(link):
    client, _, _ = link
    with pytest.raises(InvalidArgument):
        await client.call(Method("test.echo", ANYBODY, Heartbeat, RootCertificate), _Wrong(root=8))


class _Wrong(RootCertificate):
    root: int = 7


async def test_no_answer_in_time_ends_the_work(link):
    client, _, service = link
    with pytest.raises(Unavailable, match="no answer within"):
        await client.call(HANG, Nothing(), deadline=0.05)
    async with asyncio.timeout(DEADLINE):
        await service.ended.wait()


async def test_a_stream_arrives_whole_and_in_order(link):
    client, _, _ = link
    count = WINDOW * 5 + 3
    assert [item.period async for item in client.stream(COUNT, Heartbeat(period=count))] == list(range(count))


async def test_a_slow_reader_holds_the_source_back(link):
    client, _, service = link
    async with aclosing(client.stream(COUNT, Heartbeat(period=10_000))) as items:
        await anext(items)
        for _ in range(50):
            await asyncio.sleep(0)
        await client.call(ECHO, RootCertificate())
        assert service.produced <= WINDOW + 1
    async with asyncio.timeout(DEADLINE):
        await service.ended.wait()


async def test_a_broken_link_ends_calls_and_streams(link):
    client, server, service = link
    call = asyncio.ensure_future(client.call(HANG, Nothing()))
    async with asyncio.timeout(DEADLINE):
        await service.hanging.wait()
        server.close()
        with pytest.raises(Unavailable):
            await call
        await service.ended.wait()
    with pytest.raises(Unavailable):
        await client.call(ECHO, RootCertificate())


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        (5).to_bytes(4, "big") + b"abcde",
        frames.pack(Frame(Kind.CALL, 1, "x"))[:-1],
        frames.pack(Frame(Kind.RESULT, 99)),
    ],
)
async def test_nonsense_never_disturbs_the_process(nonsense):
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    peer = Peer(reader, writer, Service().served)
    running = asyncio.ensure_future(peer.run())
    with contextlib.suppress(OSError):
        theirs.sendall(nonsense)
    theirs.close()
    async with asyncio.timeout(DEADLINE):
        await running
