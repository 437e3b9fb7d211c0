"""Who gets in at a manager's port, over real TLS on loopback."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from enxame.errors import PermissionDenied, Unavailable
from enxame.security import ca
from enxame.security.roots import cross_sign
from enxame.transport import dialer
from enxame.transport.identity import (
    Identity,
    ServerIdentity,
    client_context,
    joining_context,
    server_context,
    unverified_context,
)
from enxame.transport.listener import Listener
from enxame.transport.methods import ANYBODY, MANAGERS, NODES, Method, Nothing, RootCertificate
from enxame.transport.peer import Served

NOW = datetime.now(UTC)
OPEN = Method("test.open", ANYBODY, Nothing, RootCertificate)
FOR_NODES = Method("test.nodes", NODES, Nothing, RootCertificate)
FOR_MANAGERS = Method("test.managers", MANAGERS, Nothing, RootCertificate)
HANG = Method("test.hang", NODES, Nothing, RootCertificate)
DEADLINE = 10.0


@pytest.fixture(scope="module")
def root():
    return ca.create_root(NOW)


def identity(root, role="worker", node_id="n1", *, now=NOW, trusted=None):
    pair = ca.issue_node_certificate(
        root, node_id=node_id, role=role, cluster_id="c1", expiry=timedelta(hours=2), now=now
    )
    return Identity(pair.cert, pair.key, (trusted or root).cert)


class Manager:
    def __init__(self, root):
        self.removed = set()
        self.hanging = asyncio.Event()
        served = Served()

        async def name_caller(peer, request):
            return RootCertificate(root=f"{peer.role}:{peer.node_id}:{peer.cluster_id}")

        async def hang(peer, request):
            self.hanging.set()
            await asyncio.Event().wait()

        for method in (OPEN, FOR_NODES, FOR_MANAGERS):
            served.call(method, name_caller)
        served.call(HANG, hang)
        self.listener = Listener(served, self.admit)
        self.context = server_context(identity(root, "manager", "m1"))

    def admit(self, caller):
        if caller.node_id in self.removed:
            raise PermissionDenied("removed")
        return caller

    async def ask(self, method, context):
        async with asyncio.timeout(DEADLINE), dialer.link(self.address, context) as peer:
            return (await peer.call(method, Nothing())).root


@pytest.fixture
async def manager(root):
    made = Manager(root)
    made.address = f"127.0.0.1:{await made.listener.listen('127.0.0.1', 0, made.context)}"
    yield made
    async with asyncio.timeout(DEADLINE):
        await made.listener.close()


async def test_a_certificate_says_who_calls(manager, root):
    assert await manager.ask(FOR_NODES, client_context(identity(root))) == "worker:n1:c1"
    assert await manager.ask(FOR_MANAGERS, client_context(identity(root, "manager", "m2"))) == "manager:m2:c1"


async def test_a_worker_may_not_what_managers_may(manager, root):
    with pytest.raises(PermissionDenied, match=r"test.managers is not for node n1 \(worker\)"):
        await manager.ask(FOR_MANAGERS, client_context(identity(root)))


@pytest.mark.parametrize("make", [lambda root: unverified_context(), lambda root: joining_context(root.cert)])
async def test_without_a_certificate_only_the_open_methods_answer(manager, root, make):
    assert await manager.ask(OPEN, make(root)) == "::"
    with pytest.raises(PermissionDenied, match="a caller without a certificate"):
        await manager.ask(FOR_NODES, make(root))


async def test_a_foreign_certificate_is_refused(manager, root):
    foreign = identity(ca.create_root(NOW), "manager", "m9", trusted=root)
    with pytest.raises(Unavailable):
        await manager.ask(OPEN, client_context(foreign))


async def test_an_expired_certificate_is_refused(manager, root):
    old = identity(root, "manager", now=NOW - timedelta(days=30))
    with pytest.raises(Unavailable):
        await manager.ask(OPEN, client_context(old))


async def test_a_manager_of_another_swarm_is_not_believed(manager):
    with pytest.raises(Unavailable, match="did not prove to be a manager of this swarm"):
        await manager.ask(OPEN, joining_context(ca.create_root(NOW).cert))


async def test_a_worker_cannot_pose_as_a_manager(root):
    poser = Manager(root).listener
    port = await poser.listen("127.0.0.1", 0, server_context(identity(root, "worker", "w1")))
    try:
        with pytest.raises(Unavailable, match="is no manager"):
            async with dialer.link(f"127.0.0.1:{port}", client_context(identity(root))):
                pass
    finally:
        await poser.close()


async def test_a_removed_node_is_cut_off_and_stays_out(manager, root):
    context = client_context(identity(root))
    async with asyncio.timeout(DEADLINE), dialer.link(manager.address, context) as peer:
        call = asyncio.ensure_future(peer.call(HANG, Nothing()))
        await manager.hanging.wait()
        manager.removed.add("n1")
        manager.listener.cut("n1")
        with pytest.raises(Unavailable, match="the link broke"):
            await call
    with pytest.raises(PermissionDenied, match="removed"):
        await manager.ask(OPEN, context)


async def test_nobody_there(root):
    with pytest.raises(Unavailable, match=r"cannot reach 127\.0\.0\.1:1: "):
        async with dialer.link("127.0.0.1:1", client_context(identity(root))):
            pass


@pytest.mark.parametrize(("period", "random", "seconds"), [(1.0, 1.0, 0.0), (0.5, 1.0, 0.0), (10.0, 0.5, 4.5)])
def test_the_more_nodes_there_are_the_more_they_spread_when_they_come_back(period, random, seconds):
    assert dialer.spread(period, random) == pytest.approx(seconds)


def test_delays_grow_to_a_limit_with_jitter():
    assert dialer.next_delay(0, 1) == pytest.approx(0.1)
    assert dialer.next_delay(0.1, 1) == pytest.approx(0.2)
    assert dialer.next_delay(100, 1) == pytest.approx(8)
    assert dialer.next_delay(100, 0) == pytest.approx(4)


# Roots that change while the port listens


class Rotating(Manager):
    """A manager's port whose certificate and trust are replaced."""

    def __init__(self, root):
        super().__init__(root)
        self.own = ServerIdentity(identity(root, "manager", "m1"))
        self.context = self.own.context


async def test_a_port_shows_and_believes_what_is_newest_without_listening_anew(root):
    new = ca.create_root(NOW)
    old_worker, new_worker = client_context(identity(root)), client_context(identity(new))
    async with serving(Rotating(root)) as manager:
        assert await manager.ask(FOR_NODES, old_worker) == "worker:n1:c1"
        await refused(manager, new_worker)

        # While the root is rotated both are believed, and the manager can prove itself to either.
        pair = ca.issue_node_certificate(
            new, node_id="m1", role="manager", cluster_id="c1", expiry=timedelta(hours=2), now=NOW
        )
        chain = pair.cert + cross_sign(root, new.cert)
        manager.own.replace(Identity(chain, pair.key, root.cert, new.cert))
        assert await manager.ask(FOR_NODES, old_worker) == "worker:n1:c1"
        assert await manager.ask(FOR_NODES, new_worker) == "worker:n1:c1"
        assert await manager.ask(OPEN, joining_context(root.cert)) == "::"

        # Afterwards the old one is not, though the caller would still believe the manager.
        manager.own.replace(Identity(chain, pair.key, new.cert))
        assert await manager.ask(FOR_NODES, new_worker) == "worker:n1:c1"
        await refused(manager, old_worker)


@asynccontextmanager
async def serving(made):
    made.address = f"127.0.0.1:{await made.listener.listen('127.0.0.1', 0, made.context)}"
    try:
        yield made
    finally:
        async with asyncio.timeout(DEADLINE):
            await made.listener.close()


async def refused(manager, context):
    with pytest.raises(Unavailable):
        await manager.ask(FOR_NODES, context)
