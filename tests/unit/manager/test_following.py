"""What a manager that does not lead does for nodes and for itself."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from enxame.errors import EnxameError, PermissionDenied, Unavailable
from enxame.manager.admission import Admission
from enxame.manager.dispatcher import Dispatcher
from enxame.manager.failure_detector import FailureDetector
from enxame.manager.leader_link import LeaderLink
from enxame.manager.leadership import LeadsItself
from enxame.manager.node_sessions import NodeSessions
from enxame.manager.session_front import SessionFront
from enxame.manager.swarm import new_cluster
from enxame.model.cluster import InitRequest
from enxame.model.node import ManagerStatus, Node
from enxame.security import ca, ids
from enxame.store.backend import NoLeader
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store
from enxame.transport import dialer
from enxame.transport.identity import Identity, client_context, joining_context, server_context
from enxame.transport.listener import Listener
from enxame.transport.methods import (
    CA_ISSUE,
    MANAGER_STANDING,
    NODE_HEARTBEAT,
    NODE_SESSION,
    Beat,
    IssueRequest,
    ManagerStanding,
    Nothing,
    SessionRequest,
)
from enxame.transport.peer import Served
from tests.unit.manager.conftest import manager_node, worker_node

NOW = datetime.now(UTC)
ROOT = ca.create_root(NOW)
DEADLINE = 10.0


def identity_of(node_id, role):
    pair = ca.issue_node_certificate(
        ROOT, node_id=node_id, role=role, cluster_id="c1", expiry=timedelta(hours=2), now=NOW
    )
    return Identity(pair.cert, pair.key, ROOT.cert)


class Standing:
    """What the swarm's state says of leadership."""

    def __init__(self):
        self.leads = False
        self.leader = ""


class Manager:
    """The parts of a manager that others call, over a store of its own."""

    def __init__(self, node_id):
        self.node_id = node_id
        self.store = Store(MemoryBackend(), wall=lambda: NOW)
        self.standing = Standing()
        self.link = LeaderLink(
            node_id,
            self.standing,
            view=lambda: self.store.view,
            context=lambda: client_context(identity_of(node_id, "manager")),
        )
        self.detector = FailureDetector(self.store, node_id, lambda: 0.0, lambda _node_id: None)
        admission = Admission(
            self.store,
            self.link,
            wall=lambda: NOW,
            joined=self.detector.expect,
        )
        self.front = SessionFront(self.link)
        served = Served()
        admission.serve(served)
        self.front.serve(served)
        served.call(MANAGER_STANDING, self._for_managers)
        self.listener = Listener(served, admission.check)
        self.running = []

    async def _for_managers(self, _peer, _request):
        return ManagerStanding(member=True)

    async def start(self, cluster):
        await self.store.start()
        own = server_context(identity_of(self.node_id, "manager"))
        self.address = f"127.0.0.1:{await self.listener.listen('127.0.0.1', 0, own)}"
        await self.store.update(lambda tx: tx.create(cluster))
        self.running = [asyncio.create_task(self.link.run())]

    async def know(self, *nodes):
        await self.store.update(lambda tx: [tx.create(node) for node in nodes])

    def lead(self):
        self.standing.leads, self.standing.leader = True, self.node_id
        self.dispatcher = Dispatcher(self.store)
        self.front.lead(NodeSessions(self.store, self.dispatcher, self.detector))

    def follow(self, leader):
        self.standing.leads, self.standing.leader = False, leader
        self.front.follow()

    async def close(self):
        await self.listener.close()
        for task in self.running:
            task.cancel()
        await asyncio.wait(self.running)
        await self.store.close()


@pytest.fixture
async def two():
    """m1 leads, m2 follows; both know w1."""
    managers = [Manager("m1"), Manager("m2")]
    cluster = new_cluster("c1", InitRequest(), ROOT)
    for manager in managers:
        await manager.start(cluster)
    for manager in managers:
        for one in managers:
            status = ManagerStatus(reachability="reachable", addr=one.address)
            await manager.know(replace(manager_node(one.node_id), manager_status=status))
        await manager.know(worker_node("w1", "host1"))
    managers[0].lead()
    managers[1].follow("m1")
    yield managers
    for manager in managers:
        await manager.close()


@asynccontextmanager
async def called_by(node_id, role, manager):
    async with (
        asyncio.timeout(DEADLINE),
        dialer.link(manager.address, client_context(identity_of(node_id, role))) as peer,
    ):
        yield peer


async def first_news(peer):
    news = peer.stream(NODE_SESSION, SessionRequest())
    return await anext(news), news


async def test_a_node_is_sent_to_the_manager_that_leads(two):
    leader, follower = two
    async with called_by("w1", "worker", follower) as peer:
        news, _ = await first_news(peer)
        assert news.redirect == leader.address
        with pytest.raises(Unavailable, match="this manager does not lead the swarm"):
            await peer.call(NODE_HEARTBEAT, Beat())
    async with called_by("w1", "worker", leader) as peer:
        news, _ = await first_news(peer)
        assert (news.redirect, news.manages) == ("", False)
        assert {manager.addr for manager in news.managers} == {leader.address, follower.address}


async def test_a_node_waits_for_the_outcome_of_an_election(two):
    leader, follower = two
    follower.follow("")
    async with called_by("w1", "worker", follower) as peer:
        waiting = asyncio.create_task(first_news(peer))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        follower.follow("m1")
        news, _ = await waiting
        assert news.redirect == leader.address


async def test_sessions_end_when_their_manager_leads_no_more(two):
    leader, follower = two
    async with called_by("w1", "worker", leader) as peer:
        _news, items = await first_news(peer)
        leader.follow("m2")
        follower.lead()
        with pytest.raises(Unavailable):
            await anext(items)


async def test_a_request_for_a_certificate_is_passed_on_with_where_it_came_from(two):
    leader, follower = two
    cluster = new_cluster("c1", InitRequest(), ROOT)
    token = next(iter(leader.store.view.all(type(cluster)))).join_tokens.manager
    _, request = ca.new_signing_request()
    async with asyncio.timeout(DEADLINE), dialer.link(follower.address, joining_context(ROOT.cert)) as peer:
        answer = await peer.call(CA_ISSUE, IssueRequest(token=token, signing_request=request))
    assert answer.node_id == ids.id_of(ca.key_in_request(request))
    assert leader.store.view.get(Node, answer.node_id).status.addr == "127.0.0.1"
    assert ca.certified_addresses(answer.certificate) == {"127.0.0.1"}
    assert follower.store.view.get(Node, answer.node_id) is None
    # A stranger cannot say where it comes from.
    _, request = ca.new_signing_request()
    async with asyncio.timeout(DEADLINE), dialer.link(leader.address, joining_context(ROOT.cert)) as peer:
        answer = await peer.call(CA_ISSUE, IssueRequest(token=token, signing_request=request, seen_from="10.9.9.9"))
    assert ca.certified_addresses(answer.certificate) == {"127.0.0.1"}


async def test_only_the_leader_says_that_a_node_was_removed(two):
    leader, follower = two
    async with called_by("new", "worker", follower) as peer:
        assert (await first_news(peer))[0].redirect == leader.address
    async with called_by("new", "worker", leader) as peer:
        with pytest.raises(PermissionDenied, match="node new was removed from swarm"):
            await first_news(peer)


@pytest.mark.parametrize("index", [0, 1])
async def test_a_managers_certificate_is_worth_a_workers_when_the_node_is_none_any_more(two, index):
    manager = two[index]
    async with called_by("m2" if index == 0 else "m1", "manager", manager) as peer:
        assert (await peer.call(MANAGER_STANDING, Nothing())).member
    async with called_by("w1", "manager", manager) as peer:
        with pytest.raises(PermissionDenied, match=r"manager.standing is not for node w1 \(worker\)"):
            await peer.call(MANAGER_STANDING, Nothing())
        await first_news(peer)


async def test_the_link_to_the_leader_is_shared_and_follows_leadership(two):
    leader, follower = two
    link = await follower.link.link()
    assert await follower.link.link() is link
    assert link.node_id == "m1"
    with pytest.raises(LeadsItself):
        await leader.link.link()
    leader.follow("m2")
    follower.lead()
    async with asyncio.timeout(DEADLINE):
        while not link.closed:
            await asyncio.sleep(0.01)
    assert (await leader.link.link()).node_id == "m2"


async def test_without_a_leader_there_is_no_link(two, monkeypatch):
    leader, follower = two
    monkeypatch.setattr("enxame.manager.leader_link.PATIENCE", 0.1)
    follower.follow("")
    with pytest.raises(NoLeader, match="The swarm does not have a leader"):
        await follower.link.link()
    # One that is not sure of itself is no leader either.
    leader.standing.leads = False
    with pytest.raises(NoLeader):
        await leader.link.known(0.1)


async def test_a_leader_out_of_reach_is_told_apart_from_none(two, monkeypatch):
    leader, follower = two
    monkeypatch.setattr("enxame.manager.leader_link.PATIENCE", 0.2)
    await leader.listener.close()
    with pytest.raises(EnxameError, match="cannot reach"):
        await follower.link.link()
