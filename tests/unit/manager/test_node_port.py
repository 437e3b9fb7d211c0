"""A manager's port with everything it serves, over real TLS on loopback: who is let in, and to what."""

import asyncio
import inspect
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from enxame.control.heartbeats import Health
from enxame.errors import EnxameError, InvalidArgument, PermissionDenied, Unavailable, Unimplemented
from enxame.manager.admission import Admission
from enxame.manager.dispatcher import Dispatcher
from enxame.manager.failure_detector import FailureDetector
from enxame.manager.leadership import AlwaysLeads
from enxame.manager.node_sessions import NodeSessions
from enxame.manager.remote_logs import task_log_reader
from enxame.manager.swarm import new_cluster
from enxame.model.attachment import Attachment
from enxame.model.cluster import InitRequest
from enxame.model.dispatch import TaskStatusUpdate
from enxame.model.node import Node, NodeDescription
from enxame.model.stream import LogOptions
from enxame.model.task import Task, TaskState, TaskStatus
from enxame.security import ca
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store
from enxame.transport import dialer, methods
from enxame.transport.identity import Identity, client_context, joining_context, server_context
from enxame.transport.listener import Listener
from enxame.transport.methods import (
    API_FORWARD,
    CA_ISSUE,
    CA_RENEW,
    CA_ROOT,
    MANAGER_JOIN,
    MANAGER_READY,
    MANAGER_STANDING,
    NODE_ASSIGNMENTS,
    NODE_HEARTBEAT,
    NODE_LEAVE,
    NODE_LOGS,
    NODE_REPORT,
    NODE_SESSION,
    Beat,
    IssueRequest,
    LeaveRequest,
    LogLine,
    Method,
    Nothing,
    RenewRequest,
    SessionRequest,
    StatusReport,
)
from enxame.transport.peer import Served
from tests.unit.manager.conftest import manager_node, worker_node

NOW = datetime.now(UTC)
ROOT = ca.create_root(NOW)
DEADLINE = 10.0
#: Who calls: what the certificate says, and what is wrong with it.
CALLERS = (
    "nobody",
    "worker",
    "manager",
    "foreign",
    "expired",
    "removed",
    "other cluster",
    "worker posing as manager",
)


METHODS_OF_OTHER_PARTS = (API_FORWARD, MANAGER_JOIN, MANAGER_READY, MANAGER_STANDING)


def _elsewhere(_peer, _request):
    """Called only for who may: whatever comes of it is tested where the method is served."""
    raise Unavailable("not in this test")


class Port:
    """A manager's parts without the rest of the daemon."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.store = Store(MemoryBackend(), wall=lambda: NOW)
        self.detector = FailureDetector(self.store, "m1", lambda: self.clock, self._cut)
        admission = Admission(
            self.store,
            AlwaysLeads("m1"),
            wall=lambda: NOW,
            joined=self.detector.expect,
        )
        self.dispatcher = Dispatcher(self.store)
        self.sessions = NodeSessions(self.store, self.dispatcher, self.detector)
        served = Served()
        admission.serve(served)
        self.sessions.serve(served)
        for method in METHODS_OF_OTHER_PARTS:
            (served.stream if method.stream else served.call)(method, _elsewhere)
        self.served = served
        self.listener = Listener(served, admission.check)
        self.running: list[asyncio.Task[None]] = []

    def _cut(self, node_id: str) -> None:
        self.listener.cut(node_id)

    async def start(self) -> None:
        await self.store.start()
        self.cluster = new_cluster("c1", InitRequest(), ROOT)

        def create(tx):
            for obj in (self.cluster, manager_node("m1"), worker_node("w1", "host1"), worker_node("w2", "host2")):
                tx.create(obj)

        await self.store.update(create)
        await self.detector.start()
        own = server_context(identity_of("m1", "manager"))
        self.address = f"127.0.0.1:{await self.listener.listen('127.0.0.1', 0, own)}"
        loop = asyncio.get_running_loop()
        self.running = [
            loop.create_task(self.detector.run()),
            loop.create_task(self.dispatcher.run()),
            loop.create_task(self.sessions.follow(self.listener)),
        ]

    async def close(self) -> None:
        await self.listener.close()
        for task in self.running:
            task.cancel()
        await asyncio.wait(self.running)
        await self.store.close()

    def status(self, node_id: str):
        return self.store.view.get(Node, node_id).status

    async def until(self, condition) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await asyncio.sleep(0.01)


def identity_of(node_id: str, role: str, *, root=ROOT, cluster_id: str = "c1", now: datetime = NOW) -> Identity:
    pair = ca.issue_node_certificate(
        root, node_id=node_id, role=role, cluster_id=cluster_id, expiry=timedelta(hours=2), now=now
    )
    return Identity(pair.cert, pair.key, ROOT.cert)


def context_of(caller: str):
    match caller:
        case "nobody":
            return joining_context(ROOT.cert)
        case "worker":
            return client_context(identity_of("w1", "worker"))
        case "manager":
            return client_context(identity_of("m1", "manager"))
        case "foreign":
            return client_context(identity_of("m1", "manager", root=ca.create_root(NOW)))
        case "expired":
            return client_context(identity_of("w1", "worker", now=NOW - timedelta(days=30)))
        case "removed":
            return client_context(identity_of("w9", "worker"))
        case "other cluster":
            return client_context(identity_of("w1", "worker", cluster_id="c2"))
        case _:
            return client_context(identity_of("w1", "manager"))


@pytest.fixture
async def port():
    made = Port()
    await made.start()
    yield made
    await made.close()


def link(port: Port, caller: str, served: Served | None = None):
    return dialer.link(port.address, context_of(caller), served)


async def invoke(peer, method: Method):
    async with asyncio.timeout(DEADLINE):
        if not method.stream:
            return await peer.call(method, method.request())
        items = peer.stream(method, method.request())
        try:
            return await anext(items)
        finally:
            await items.aclose()


ALL_METHODS = [value for _, value in inspect.getmembers(methods) if isinstance(value, Method)]
REASONS = {
    "removed": "rpc error: code = PermissionDenied desc = Permission denied: node w9 was removed from swarm",
    "other cluster": (
        "rpc error: code = PermissionDenied desc = Permission denied: remote certificate not part of organization: c1"
    ),
}
#: What a certificate is worth: one of a manager that is none any more is worth a worker's.
ROLES = {"nobody": "", "worker posing as manager": "worker"}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("method", ALL_METHODS, ids=lambda method: method.name)
async def test_a_certificate_opens_what_its_role_may_and_nothing_else(port: Port, caller: str, method: Method) -> None:
    before = port.store.revision
    error: EnxameError | None = None
    try:
        async with link(port, caller) as peer:
            await invoke(peer, method)
    except EnxameError as refused:
        error = refused
    if caller in ("foreign", "expired"):
        assert isinstance(error, Unavailable)
    elif caller in REASONS:
        assert isinstance(error, PermissionDenied)
        assert error.message == REASONS[caller]
    elif method is NODE_LOGS:  # nodes serve it, managers do not
        assert isinstance(error, Unimplemented)
    elif ROLES.get(caller, caller) not in method.roles:
        assert isinstance(error, PermissionDenied)
        assert method.name in error.message
    else:
        # Let in: whatever comes of an empty request, it is not for who calls.
        assert not isinstance(error, PermissionDenied)
        return
    assert port.store.revision == before, "nothing was changed for somebody who was refused"


def test_the_matrix_knows_all_methods(port: Port) -> None:
    assert {method.name for method in ALL_METHODS} == {*port.served.methods, NODE_LOGS.name}
    open_to_all = {method.name for method in ALL_METHODS if "" in method.roles}
    assert open_to_all == {"ca.root", "ca.issue"}


# Joining


async def test_a_token_is_worth_a_certificate_of_its_role(port: Port) -> None:
    key, request = ca.new_signing_request()
    async with link(port, "nobody") as peer:
        root = (await peer.call(CA_ROOT, Nothing())).root
        answer = await peer.call(
            CA_ISSUE,
            IssueRequest(token=port.cluster.join_tokens.worker, signing_request=request, availability="Drain"),
        )
    assert root == answer.root == ROOT.cert
    known = ca.node_identity(answer.certificate)
    assert (known.node_id, known.role, known.cluster_id) == (answer.node_id, "worker", "c1")
    assert abs(known.not_after - NOW - timedelta(days=90)) < timedelta(seconds=2)
    assert answer.managers == ["10.0.0.1:2377"]
    node = port.store.view.get(Node, answer.node_id)
    assert (node.spec.role, node.spec.availability) == ("worker", "drain")
    assert (node.status.state, node.status.addr) == ("unknown", "127.0.0.1")
    assert node.description.tls_info == port.cluster.tls_info
    async with dialer.link(port.address, client_context(Identity(answer.certificate, key, ROOT.cert))) as peer:
        await invoke(peer, NODE_SESSION)
    assert port.status(answer.node_id).state == "ready"


async def test_who_missed_the_answer_and_asks_again_is_the_same_node(port: Port) -> None:
    _, request = ca.new_signing_request()
    asked = IssueRequest(token=port.cluster.join_tokens.worker, signing_request=request)
    async with link(port, "nobody") as peer:
        first = await peer.call(CA_ISSUE, asked)
        port.detector._book.note_down(first.node_id, port.clock)
        second = await peer.call(CA_ISSUE, asked)
    assert first.node_id == second.node_id
    assert len([node for node in port.store.view.all(Node) if node.spec.role == "worker"]) == 3
    assert port.detector._book.health(first.node_id) is Health.DOWN


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"token": ""}, InvalidArgument, "A valid join token is necessary to join this cluster"),
        ({"token": "SWMTKN-1-x-y"}, InvalidArgument, "A valid join token is necessary to join this cluster"),
        (
            {"token": "MANAGER", "manager_trouble": "there is no etcd"},
            Unavailable,
            "this node cannot become a manager: there is no etcd",
        ),
        ({"availability": "sleepy"}, InvalidArgument, 'invalid Availability: "sleepy"'),
        ({"signing_request": "nonsense"}, InvalidArgument, "the certificate request cannot be read"),
    ],
)
async def test_a_bad_request_is_worth_nothing(port: Port, change, error, message) -> None:
    if change.get("token") == "MANAGER":
        change = {**change, "token": port.cluster.join_tokens.manager}
    good = IssueRequest(token=port.cluster.join_tokens.worker, signing_request=ca.new_signing_request()[1])
    before = port.store.revision
    async with link(port, "nobody") as peer:
        with pytest.raises(error, match=message):
            await peer.call(CA_ISSUE, replace(good, **change))
    assert port.store.revision == before


async def test_a_renewed_certificate_is_for_the_caller_whatever_it_asks_for(port: Port) -> None:
    _, request = ca.new_signing_request()
    async with link(port, "worker") as peer:
        answer = await peer.call(CA_RENEW, RenewRequest(signing_request=request))
    known = ca.node_identity(answer.certificate)
    assert (known.node_id, known.role, known.cluster_id) == ("w1", "worker", "c1")


# Sessions


async def open_session(peer, **description):
    """The session lasts as long as somebody holds its stream."""
    news = peer.stream(NODE_SESSION, SessionRequest(description=NodeDescription(**description)))
    return news, await anext(news)


async def test_a_session_tells_what_a_node_must_know_and_what_changes(port: Port) -> None:
    async with asyncio.timeout(DEADLINE), link(port, "worker") as peer:
        news, first = await open_session(peer, hostname="box")
        assert [manager.addr for manager in first.managers] == ["10.0.0.1:2377"]
        assert (first.heartbeat_period, first.root, first.spec.role) == (1.0, ROOT.cert, "worker")
        node = port.store.view.get(Node, "w1")
        assert (node.status.state, node.status.addr, node.description.hostname) == ("ready", "127.0.0.1", "box")

        await port.store.update(lambda tx: tx.update(replace(node, spec=replace(node.spec, availability="drain"))))
        assert (await anext(news)).spec.availability == "drain"
        await news.aclose()


async def test_an_older_session_gives_way(port: Port) -> None:
    async with asyncio.timeout(DEADLINE), link(port, "worker") as first:
        _session = await open_session(first)
        async with link(port, "worker") as second:
            _later = await open_session(second)
            with pytest.raises(Unavailable):
                await first.call(NODE_HEARTBEAT, Beat())
            assert (await second.call(NODE_HEARTBEAT, Beat())).period == 1.0


async def test_without_a_session_nothing_is_reported(port: Port) -> None:
    async with link(port, "worker") as peer:
        for method, request in (
            (NODE_REPORT, StatusReport()),
            (NODE_HEARTBEAT, Beat()),
            (NODE_LEAVE, LeaveRequest()),
        ):
            with pytest.raises(Unavailable, match="node w1 is not registered"):
                await peer.call(method, request)


async def test_a_node_reports_on_its_own_tasks_alone(port: Port) -> None:
    def create(tx):
        for task, node in (("mine", "w1"), ("others", "w2")):
            tx.create(Task(id=task, node_id=node, status=TaskStatus(state=TaskState.ASSIGNED)))

    await port.store.update(create)
    running = TaskStatus(state=TaskState.RUNNING, timestamp=NOW)
    async with asyncio.timeout(DEADLINE), link(port, "worker") as peer:
        _session = await open_session(peer)
        updates = [TaskStatusUpdate(task_id=task, status=running) for task in ("mine", "others", "unknown")]
        await peer.call(NODE_REPORT, StatusReport(updates=updates))
        sets = peer.stream(NODE_ASSIGNMENTS, Nothing())
        assert [task.id for task in (await anext(sets)).tasks] == ["mine"]
        await sets.aclose()
    states = {task.id: task.status.state for task in port.store.view.all(Task)}
    assert states == {"mine": TaskState.RUNNING, "others": TaskState.ASSIGNED}


async def test_a_node_that_falls_silent_is_down_and_cut_and_must_register_again(port: Port) -> None:
    async with asyncio.timeout(DEADLINE), link(port, "worker") as peer:
        _session = await open_session(peer)
        for _ in range(20):
            await asyncio.sleep(0.21)  # lets the detector look; the manager's clock is the test's
            port.clock += 0.2
            if port.status("w1").state == "down":
                break
        assert (port.status("w1").state, port.status("w1").message) == ("down", "heartbeat failure")
        with pytest.raises(Unavailable):
            await peer.call(NODE_HEARTBEAT, Beat())
    async with asyncio.timeout(DEADLINE), link(port, "worker") as peer:
        _session = await open_session(peer)
        assert (port.status("w1").state, port.status("w1").message) == ("ready", "")


async def test_a_node_that_leaves_is_down_at_once(port: Port) -> None:
    async with asyncio.timeout(DEADLINE), link(port, "worker") as peer:
        _session = await open_session(peer)
        alone = Attachment(id="a1", node_id="w1", network_id="net", container_id="c1")
        await port.store.update(lambda tx: tx.create(alone))
        await peer.call(NODE_LEAVE, LeaveRequest())
        assert port.store.view.all(Attachment) == []
        assert (port.status("w1").state, port.status("w1").message) == ("down", "node left the swarm")


async def test_a_daemon_that_restarts_is_waited_for_and_shown_as_such(port: Port) -> None:
    async with asyncio.timeout(DEADLINE), link(port, "worker") as peer:
        _session = await open_session(peer)
        alone = Attachment(id="a1", node_id="w1", network_id="net", container_id="c1")
        await port.store.update(lambda tx: tx.create(alone))
        await peer.call(NODE_LEAVE, LeaveRequest(back_within=20.0))
        # Its containers go on, those of their own on the swarm's networks, too.
        assert [item.id for item in port.store.view.all(Attachment)] == ["a1"]
        restarting = ("ready", "its daemon restarts: expected back within 20 s")
        assert (port.status("w1").state, port.status("w1").message) == restarting
    for _ in range(18):
        await asyncio.sleep(0.21)  # lets the detector look; the manager's clock is the test's
        port.clock += 0.9
    assert (port.status("w1").state, port.status("w1").message) == restarting
    async with asyncio.timeout(DEADLINE), link(port, "worker") as peer:
        _session = await open_session(peer)
        assert (port.status("w1").state, port.status("w1").message) == ("ready", "")


async def test_a_removed_node_is_cut_at_once(port: Port) -> None:
    async with asyncio.timeout(DEADLINE), link(port, "worker") as peer:
        news, _ = await open_session(peer)
        await port.store.update(lambda tx: tx.delete(Node, "w1"))
        with pytest.raises((Unavailable, PermissionDenied)):
            [item async for item in news]
    async with link(port, "worker") as peer:
        with pytest.raises(PermissionDenied, match="node w1 was removed from swarm"):
            _session = await open_session(peer)


# Logs


async def test_logs_are_read_over_the_node_s_own_link(port: Port) -> None:
    asked = []

    async def lines(peer, request):
        asked.append((peer.role, request.task.id, request.tail))
        yield LogLine(stream=2, timestamp="2026-01-01T00:00:00Z", data=b"hello\n")

    async def own(task, options):
        raise AssertionError("not of this node")
        yield

    served = Served()
    served.stream(NODE_LOGS, lines)
    read = task_log_reader("m1", own, port.sessions.peer)
    task = Task(id="t", node_id="w1")
    async with asyncio.timeout(DEADLINE), link(port, "worker", served) as peer:
        _session = await open_session(peer)
        records = [record async for record in read(task, LogOptions(tail=3))]
    assert [(record.stream, record.data) for record in records] == [(2, b"hello\n")]
    assert asked == [("manager", "t", 3)]
    await port.until(lambda: not port.listener._peers)
    with pytest.raises(Unavailable, match="node w1 is not available"):
        [record async for record in read(task, LogOptions())]
