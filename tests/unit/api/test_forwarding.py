"""A manager that does not lead passes requests on: two APIs, the leader's port between them, real TLS on loopback."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from enxame.api import forwarding
from enxame.api.context import ApiContext, DaemonFacts
from enxame.api.forwarded import ForwardedApi
from enxame.api.repeating import IN_DOUBT, NOT_DONE
from enxame.api.server import ApiServer
from enxame.engine.events import EventBus
from enxame.errors import EnxameError, PermissionDenied, Unavailable
from enxame.manager.leadership import LeadsItself
from enxame.manager.manager import Manager
from enxame.model.cluster import PeerNode, SwarmInfo
from enxame.model.node import ManagerStatus, Node, NodeDescription, NodeSpec
from enxame.model.stream import LogOptions, LogRecord
from enxame.model.task import Task, TaskState, TaskStatus
from enxame.security import ca
from enxame.store.backend import CommitInDoubt, NoLeader, NotLeading
from enxame.testing.promises import allowed
from enxame.transport import dialer
from enxame.transport.identity import Identity, client_context, server_context
from enxame.transport.listener import Listener
from enxame.transport.methods import API_FORWARD, ForwardRequest
from enxame.transport.peer import Peer, Served
from tests.unit.api.conftest import Containers, Images, LocalNetworks, SwarmOfOne

NO_LEADER = (
    "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are "
    "online. Make sure more than half of the managers are online."
)
WEB = {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "nginx"}}, "Mode": {"Replicated": {"Replicas": 1}}}
ROOT = ca.create_root(datetime.now(UTC))


def identity(node_id: str, role: str = "manager") -> Identity:
    pair = ca.issue_node_certificate(
        ROOT, node_id=node_id, role=role, cluster_id="c", expiry=timedelta(hours=2), now=datetime.now(UTC)
    )
    return Identity(pair.cert, pair.key, ROOT.cert)


class Standing:
    """Who leads, for all managers of a test."""

    def __init__(self) -> None:
        self.leader = ""
        self.addresses: dict[str, str] = {}


class Locator:
    """As membership's: one link, made when it is wanted."""

    def __init__(self, node_id: str, standing: Standing, links: AsyncExitStack) -> None:
        self.node_id = node_id
        self._standing = standing
        self._links = links
        self._context = client_context(identity(node_id))
        self._linking = asyncio.Lock()
        self.peer: Peer | None = None

    @property
    def is_leader(self) -> bool:
        return self._standing.leader == self.node_id

    @property
    def leader(self) -> PeerNode | None:
        leader = self._standing.leader
        return PeerNode(node_id=leader, addr=self._standing.addresses[leader]) if leader else None

    async def link(self) -> Peer:
        leader = self.leader
        if leader is None:
            raise Unavailable("nobody leads yet")
        if self.is_leader:
            raise LeadsItself
        async with self._linking:
            if self.peer is None or self.peer.closed or self.peer.node_id != leader.node_id:
                self.peer = await self._links.enter_async_context(dialer.link(leader.addr, self._context))
            return self.peer


class OneManager:
    """A manager with its API, over the state that all of them share (as if every replica were always up to date)."""

    def __init__(self, name: str, swarm: SwarmOfOne, standing: Standing, links: AsyncExitStack, root: Path) -> None:
        self.node_id = name * 25
        self.log_lines: list[LogRecord] = []
        self.reading = asyncio.Event()
        self.read_to_the_end = asyncio.Event()
        self.manager = Manager(swarm.manager.store, node_id=self.node_id, read_log=self._read_log)
        self.leadership = Locator(self.node_id, standing, links)
        self.networks = LocalNetworks()
        self.forwarded = ForwardedApi()
        self.socket = root / f"{name}.sock"
        self._standing = standing
        self._served = Served()
        self.forwarded.serve(self._served)

    async def start(self) -> None:
        engine = SimpleNamespace(networks=self.networks, events=EventBus(), containers=Containers(), images=Images())
        facts = DaemonFacts(id=self.node_id, name="here", data_root="/nowhere")
        self.server = ApiServer(ApiContext(engine=engine, membership=self, facts=facts), self.forwarded)  # type: ignore[arg-type]
        await self.server.listen_unix(self.socket)
        await self.server.listen_unix(self.socket.with_suffix(".ro"), looks_only=True)
        await self.open_port()
        self.client = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.socket)))

    async def open_port(self) -> None:
        self.port = Listener(self._served, lambda caller: caller)
        at = await self.port.listen("127.0.0.1", 0, server_context(identity(self.node_id)))
        self._standing.addresses[self.node_id] = f"127.0.0.1:{at}"

    async def stop(self) -> None:
        await self.client.close()
        await self.server.close(deadline=1)
        await self.port.close()

    def info(self) -> SwarmInfo:
        return SwarmInfo(node_id=self.node_id, local_node_state="active", control_available=True)

    async def _read_log(self, task: Task, options: LogOptions) -> AsyncIterator[LogRecord]:
        try:
            for line in self.log_lines:
                yield line
            self.reading.set()
            if options.follow:
                await asyncio.Event().wait()
        finally:
            self.read_to_the_end.set()

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        async with self.client.request(method, f"http://docker{path}", json=body, **options) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None


class Lab:
    def __init__(self, first: OneManager, second: OneManager, standing: Standing, swarm: SwarmOfOne) -> None:
        self.first, self.second, self.standing, self.swarm = first, second, standing, swarm

    @property
    def store(self) -> Any:
        return self.swarm.manager.store

    def lead(self, manager: OneManager | None) -> None:
        self.standing.leader = manager.node_id if manager else ""


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """Manager ``a`` leads; clients ask ``b``."""
    monkeypatch.setattr(forwarding, "PATIENCE", 1.0)
    swarm, standing = SwarmOfOne(), Standing()
    await swarm.found()
    async with AsyncExitStack() as links:
        first, second = (OneManager(name, swarm, standing, links, tmp_path) for name in "ab")
        for manager in (first, second):
            await manager.start()
        made = Lab(first, second, standing, swarm)
        made.lead(first)
        yield made
        for manager in (second, first):
            await manager.stop()
    await swarm.manager.store.close()


async def test_a_service_is_made_read_updated_and_removed_through_a_manager_that_does_not_lead(lab: Lab) -> None:
    status, made = await lab.second.ask("POST", "/v1.41/services/create", WEB)
    assert status == 201
    _, seen = await lab.second.ask("GET", "/v1.41/services/web?insertDefaults=true")
    assert seen["ID"] == made["ID"]
    assert seen["Spec"]["TaskTemplate"]["RestartPolicy"]["Condition"] == "any"
    path = f"/services/web/update?version={seen['Version']['Index']}"
    assert await lab.second.ask("POST", path, {**WEB, "Labels": {"a": "b"}}) == (200, {"Warnings": None})
    assert (await lab.second.ask("POST", path, WEB))[0] == 500
    assert (await lab.second.ask("DELETE", "/services/web")) == (200, None)
    assert await lab.second.ask("GET", "/services/web") == (404, {"message": "service web not found"})


async def test_the_answer_is_the_leaders_headers_and_all(lab: Lab) -> None:
    url = "http://docker/v1.41/nodes"
    async with lab.first.client.get(url) as own, lab.second.client.get(url) as passed_on:
        assert (passed_on.status, await passed_on.read()) == (own.status, await own.read())
        assert {**passed_on.headers, "Date": ""} == {**own.headers, "Date": ""}
    assert await lab.second.ask("GET", "/v1.23/nodes") == (
        400,
        {
            "message": "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your "
            "client to a newer version"
        },
    )
    status, answer = await lab.second.ask("GET", f"/nodes?filters={json.dumps({'bogus': ['x']})}")
    assert (status, answer["message"]) == (400, "invalid filter 'bogus'")


async def test_credentials_for_a_registry_come_along(lab: Lab) -> None:
    auth = base64.urlsafe_b64encode(json.dumps({"username": "u", "password": "p"}).encode()).decode()
    _, made = await lab.second.ask("POST", "/services/create", WEB, headers={"X-Registry-Auth": auth})
    stored = lab.first.manager.services.get(made["ID"])
    assert stored.internal is not None
    assert stored.internal.registry_auth == auth


async def test_a_body_that_is_too_large_is_refused_where_it_comes_in(lab: Lab) -> None:
    body = io.BytesIO(b'{"Name": "c", "Data": "%b"}' % (b"A" * (5 << 20)))
    headers = {"Content-Type": "application/json"}
    async with lab.second.client.post("http://docker/configs/create", data=body, headers=headers) as response:
        assert response.status == 413
        assert "request body too large" in (await response.json())["message"]


async def test_a_long_list_comes_whole(lab: Lab) -> None:
    labels = {f"label-{number}": "x" * 200 for number in range(200)}

    def create(tx: Any) -> None:
        for number in range(100):
            spec = NodeSpec(role="worker", availability="active", labels=labels)
            tx.create(Node(id=f"{number:025}", spec=spec, description=NodeDescription(hostname=f"h{number}")))

    await lab.store.update(create)
    _, nodes = await lab.second.ask("GET", "/nodes")
    assert len(nodes) == 101
    assert all(node["Spec"]["Labels"] == labels for node in nodes if node["Spec"]["Labels"])


async def test_the_node_called_self_is_the_one_that_was_asked(lab: Lab) -> None:
    def create(tx: Any) -> None:
        for manager in (lab.first, lab.second):
            spec = NodeSpec(role="manager", availability="active")
            tx.create(Node(id=manager.node_id, spec=spec, description=NodeDescription(hostname=manager.node_id[0])))
        tx.create(Task(id="t" * 25, node_id=lab.second.node_id))

    await lab.store.update(create)
    _, node = await lab.second.ask("GET", "/nodes/self")
    assert node["ID"] == lab.second.node_id
    _, tasks = await lab.second.ask("GET", f"/tasks?filters={json.dumps({'node': ['self']})}")
    assert [task["ID"] for task in tasks] == ["t" * 25]


async def test_the_list_of_nodes_tells_who_leads_now(lab: Lab) -> None:
    def create(tx: Any) -> None:
        for manager in (lab.first, lab.second):
            status = ManagerStatus(leader=manager is lab.first, reachability="reachable")
            spec = NodeSpec(role="manager", availability="active")
            tx.create(Node(id=manager.node_id, spec=spec, manager_status=status))

    await lab.store.update(create)

    async def leaders() -> list[str]:
        nodes = (await lab.second.ask("GET", "/nodes"))[1]
        assert [(await lab.second.ask("GET", f"/nodes/{node['ID']}"))[1] for node in nodes] == nodes
        return [node["ID"] for node in nodes if node.get("ManagerStatus", {}).get("Leader")]

    assert await leaders() == [lab.first.node_id]
    lab.lead(lab.second)
    assert await leaders() == [lab.second.node_id]


async def _service_with_a_task(lab: Lab) -> None:
    _, made = await lab.second.ask("POST", "/services/create", WEB)
    task = Task(
        id="t" * 25, service_id=made["ID"], node_id=lab.first.node_id, status=TaskStatus(state=TaskState.RUNNING)
    )
    await lab.store.update(lambda tx: tx.create(task))


async def test_logs_stream_and_end_with_their_client(lab: Lab) -> None:
    await _service_with_a_task(lab)
    lab.first.log_lines = [LogRecord(1, "2030-01-01T00:00:00Z", b"x" * 9_999 + b"\n")] * 200
    url = "http://docker/services/web/logs?stdout=1&follow=1"
    async with lab.second.client.get(url) as response:
        assert response.status == 200
        data = await response.content.readexactly(200 * 10_008)
        assert data[:8] == b"\x01\0\0\0" + (10_000).to_bytes(4, "big")
        assert not lab.first.read_to_the_end.is_set()
        response.close()
    async with asyncio.timeout(5):
        await lab.first.read_to_the_end.wait()
    assert not lab.second.reading.is_set(), "only the leader reads"


async def test_a_follower_of_logs_learns_that_the_leader_was_lost(lab: Lab) -> None:
    await _service_with_a_task(lab)
    lab.first.log_lines = [LogRecord(1, "2030-01-01T00:00:00Z", b"one\n")]
    async with lab.second.client.get("http://docker/services/web/logs?stdout=1&follow=1") as response:
        assert await response.content.readexactly(12) == b"\x01\0\0\0\0\0\0\x04one\n"
        lab.lead(lab.second)
        async with asyncio.timeout(5):
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.read()


async def test_a_read_only_socket_shows_no_secret_of_the_leader(lab: Lab) -> None:
    connector = aiohttp.UnixConnector(str(lab.second.socket.with_suffix(".ro")))
    async with aiohttp.ClientSession(connector=connector) as client:
        async with client.get("http://docker/swarm") as response:
            shown = await response.json()
        assert "JoinTokens" not in shown
        assert shown["ID"] == "c" * 25
        async with client.post("http://docker/services/create", json=WEB) as response:
            assert response.status == 403
    _, whole = await lab.second.ask("GET", "/swarm")
    assert whole["JoinTokens"]["Manager"].startswith("SWMTKN-1-")


async def test_only_managers_may_pass_requests_on_and_only_those_about_the_swarm(lab: Lab) -> None:
    address = lab.standing.addresses[lab.first.node_id]

    async def head(node_id: str, role: str, target: str, method: str = "GET") -> Any:
        request = ForwardRequest(method=method, target=target)
        async with (
            dialer.link(address, client_context(identity(node_id, role))) as peer,
            aclosing(peer.stream(API_FORWARD, request)) as parts,
        ):
            return await anext(parts)

    with pytest.raises(PermissionDenied, match=r"api.forward is not for node w \(worker\)"):
        await head("w", "worker", "/nodes")
    assert (await head("m", "manager", "/nodes")).status == 200
    for target in ("/info", "/containers/json", "/events", "/version", "/nowhere"):
        assert (await head("m", "manager", target)).status == 404
    for target in ("/swarm/leave?force=1", "/swarm/init", "/swarm/join", "/containers/create", "/swarm/unlock"):
        assert (await head("m", "manager", target, "POST")).status == 404


async def test_info_is_told_by_each_manager_itself_and_says_when_nobody_leads(lab: Lab) -> None:
    _, told = await lab.second.ask("GET", "/info")
    assert (told["Swarm"]["NodeID"], told["Swarm"]["Error"]) == (lab.second.node_id, "")
    lab.lead(None)
    _, told = await lab.second.ask("GET", "/info")
    assert (told["Swarm"]["LocalNodeState"], told["Swarm"]["Error"]) == ("active", NO_LEADER)


# Networks: the swarm's and this machine's


async def test_both_kinds_of_networks_are_listed_once(lab: Lab) -> None:
    lab.first.networks.made[0] = replace(lab.first.networks.made[0], name="leaders-own")
    status, made = await lab.second.ask("POST", "/networks/create", {"Name": "over", "Driver": "overlay"})
    assert status == 201
    status, _ = await lab.second.ask("POST", "/networks/create", {"Name": "mine", "Driver": "bridge"})
    assert status == 201
    _, listed = await lab.second.ask("GET", "/networks")
    assert sorted(network["Name"] for network in listed) == ["bridge", "host", "ingress", "mine", "over"]
    assert [network.name for network in lab.first.networks.made] == ["leaders-own", "host"]
    _, listed = await lab.second.ask("GET", f"/networks?filters={json.dumps({'scope': ['swarm']})}")
    assert sorted(network["Name"] for network in listed) == ["ingress", "over"]
    _, seen = await lab.second.ask("GET", "/networks/over")
    assert (seen["Id"], seen["Scope"]) == (made["Id"], "swarm")
    _, seen = await lab.second.ask("GET", "/networks/bridge")
    assert next(iter(seen["Containers"].values()))["Name"] == "box"
    _, seen = await lab.second.ask("GET", "/networks/host?scope=swarm")
    assert (seen["Id"], seen["Scope"]) == ("h" * 25, "swarm")
    assert await lab.second.ask("GET", "/networks/leaders-own") == (
        404,
        {"message": "network leaders-own not found"},
    )
    status, answer = await lab.second.ask("POST", "/networks/create", {"Name": "over", "Driver": "bridge"})
    assert (status, answer["message"]) == (409, "network with name over already exists")
    assert (await lab.second.ask("DELETE", "/networks/mine"))[0] == 204
    assert (await lab.second.ask("DELETE", "/networks/over"))[0] == 204
    assert (await lab.second.ask("POST", "/networks/create", {"Name": "unused", "Driver": "overlay"}))[0] == 201
    assert await lab.second.ask("POST", "/networks/prune") == (200, {"NetworksDeleted": ["pruned-here", "unused"]})
    _, listed = await lab.second.ask("GET", "/networks")
    assert sorted(network["Name"] for network in listed) == ["bridge", "host", "ingress"]


async def test_networks_are_told_from_the_own_copy_while_nobody_leads(lab: Lab) -> None:
    lab.lead(None)
    _, listed = await lab.second.ask("GET", "/networks")
    assert sorted(network["Name"] for network in listed) == ["bridge", "host", "ingress"]
    status, _ = await lab.second.ask("POST", "/networks/create", {"Name": "mine", "Driver": "bridge"})
    assert status == 201
    assert await lab.second.ask("POST", "/networks/create", {"Name": "o", "Driver": "overlay"}) == (
        500,
        {"message": NO_LEADER},
    )


# Without a leader, and with one that is lost


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/services"), ("POST", "/services/create"), ("GET", "/swarm"), ("DELETE", "/secrets/x")],
)
async def test_without_a_leader_the_answer_is_swarms(lab: Lab, method: str, path: str) -> None:
    lab.lead(None)
    began = asyncio.get_running_loop().time()
    body = WEB if method == "POST" else None
    assert await lab.second.ask(method, path, body) == (500, {"message": NO_LEADER})
    assert 0.9 < asyncio.get_running_loop().time() - began < allowed(1.5)


@pytest.mark.parametrize("winner", ["first", "second"])
async def test_a_request_waits_for_an_election(lab: Lab, winner: str) -> None:
    lab.lead(None)
    asked = asyncio.ensure_future(lab.second.ask("POST", "/services/create", WEB))
    await asyncio.sleep(0.1)
    assert not asked.done()
    lab.lead(getattr(lab, winner))
    assert (await asked)[0] == 201


async def test_a_manager_that_no_longer_leads_sends_the_request_on_its_way(lab: Lab) -> None:
    real = lab.first.leadership
    asked_in_vain = 0

    class NotThere:
        node_id = real.node_id

        @property
        def is_leader(self) -> bool:
            nonlocal asked_in_vain
            asked_in_vain += 1
            if asked_in_vain == 3:
                lab.lead(lab.second)
            return False

    lab.first.leadership = NotThere()  # type: ignore[assignment]
    assert (await lab.second.ask("POST", "/services/create", WEB))[0] == 201
    assert asked_in_vain == 3


class Lossy:
    """The leader's store: what happens to its next commit, and what becomes of the leader then."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._update = lab.store.update
        self.commits = True
        self.raises: Callable[[], Exception] | None = None
        self.then: Callable[[], Any] = lambda: None
        self.answered = True

    def install(self) -> None:
        self._lab.store.update = self.update

    async def update(self, change: Any) -> Any:
        self._lab.store.update = self._update
        result = await self._update(change) if self.commits else None
        outcome = self.then()
        if asyncio.iscoroutine(outcome):
            await outcome
        if self.raises is not None:
            raise self.raises()
        if not self.answered:
            await asyncio.Event().wait()
        return result


def lose_leader(lab: Lab, *, commits: bool, how: str) -> None:
    """With the next write the leader is lost: its link breaks, it hangs while another one leads, or it cannot tell."""
    lossy = Lossy(lab)
    lossy.commits, lossy.answered = commits, False

    def gone() -> None:
        lab.lead(lab.second)
        if how == "cut":
            lab.first.port.cut(lab.second.node_id)
        if how == "doubt":
            lossy.raises = CommitInDoubt

    lossy.then = gone
    lossy.install()


async def _version(lab: Lab, path: str) -> int:
    return int((await lab.second.ask("GET", path))[1]["Version"]["Index"])


LOSSES = pytest.mark.parametrize("how", ["cut", "silent", "doubt"])
DONE_OR_NOT = pytest.mark.parametrize("commits", [True, False], ids=["it was done", "it was not done"])
DATA = base64.b64encode(b"data").decode()


@LOSSES
@DONE_OR_NOT
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/services/create", WEB),
        ("/services/create", {**WEB, "Name": ""}),
        ("/secrets/create", {"Name": "s", "Data": DATA}),
        ("/configs/create", {"Name": "c", "Data": DATA}),
        ("/networks/create", {"Name": "over", "Driver": "overlay"}),
    ],
)
async def test_what_is_made_while_the_leader_is_lost_is_there_once(
    lab: Lab, how: str, commits: bool, path: str, body: Any
) -> None:
    lose_leader(lab, commits=commits, how=how)
    status, made = await lab.second.ask("POST", path, body)
    assert status == 201
    collection = path.split("/")[1]
    _, listed = await lab.second.ask("GET", f"/{collection}")
    ids = [one.get("ID") or one.get("Id") for one in listed]
    assert ids.count(made.get("ID") or made.get("Id")) == 1
    assert len([one for one in listed if one.get("Name") not in ("bridge", "host", "ingress")]) == 1


@LOSSES
@DONE_OR_NOT
async def test_an_update_while_the_leader_is_lost_happens_once_and_is_never_called_failed(
    lab: Lab, how: str, commits: bool
) -> None:
    await lab.second.ask("POST", "/services/create", WEB)
    path = f"/services/web/update?version={await _version(lab, '/services/web')}"
    lose_leader(lab, commits=commits, how=how)
    status, answer = await lab.second.ask("POST", path, {**WEB, "Labels": {"a": "b"}})
    assert (status, answer.get("message")) == ((500, IN_DOUBT) if commits else (200, None))
    _, seen = await lab.second.ask("GET", "/services/web")
    assert seen["Spec"]["Labels"] == {"a": "b"}
    assert seen["PreviousSpec"]["Labels"] == {}


@LOSSES
@DONE_OR_NOT
async def test_a_removal_while_the_leader_is_lost_is_looked_after_not_repeated(
    lab: Lab, how: str, commits: bool
) -> None:
    await lab.second.ask("POST", "/secrets/create", {"Name": "s", "Data": DATA})
    lose_leader(lab, commits=commits, how=how)
    status, answer = await lab.second.ask("DELETE", "/secrets/s")
    assert (status, answer and answer["message"]) == ((204, None) if commits else (503, NOT_DONE))
    assert (await lab.second.ask("GET", "/secrets/s"))[0] == (404 if commits else 200)


async def test_without_another_leader_nobody_knows(lab: Lab) -> None:
    lossy = Lossy(lab)
    lossy.then, lossy.raises = lambda: lab.lead(None), CommitInDoubt
    lossy.install()
    assert await lab.second.ask("POST", "/services/create", WEB) == (500, {"message": IN_DOUBT})


@pytest.mark.parametrize("refusal", [NotLeading, NoLeader])
async def test_a_write_that_the_leader_could_not_make_is_made_by_the_next_one(
    lab: Lab, refusal: type[EnxameError]
) -> None:
    lossy = Lossy(lab)
    lossy.commits, lossy.then = False, lambda: lab.lead(lab.second)
    lossy.raises = (lambda: refusal("it does not lead")) if refusal is NotLeading else NoLeader
    lossy.install()
    assert (await lab.second.ask("POST", "/services/create", WEB))[0] == 201


async def test_a_leader_that_cannot_commit_any_more_hands_its_own_clients_requests_on(lab: Lab) -> None:
    lossy = Lossy(lab)
    lossy.commits, lossy.then, lossy.raises = False, lambda: lab.lead(lab.second), NoLeader
    lossy.install()
    assert (await lab.first.ask("POST", "/services/create", WEB))[0] == 201
    assert (await lab.first.ask("GET", "/services/web"))[0] == 200


async def test_a_read_is_repeated_when_the_link_breaks(lab: Lab) -> None:
    assert (await lab.second.ask("GET", "/nodes"))[0] == 200
    await lab.first.port.close()
    await lab.first.open_port()
    assert (await lab.second.ask("GET", "/nodes"))[0] == 200


async def test_hundreds_of_requests_go_through_at_once(lab: Lab) -> None:
    bodies = [{"Name": f"c{number}", "Data": DATA} for number in range(400)]
    lab.second.client.connector._limit = 0  # type: ignore[union-attr]
    answers = await asyncio.gather(*(lab.second.ask("POST", "/configs/create", body) for body in bodies))
    assert {status for status, _ in answers} == {201}
    _, listed = await lab.second.ask("GET", "/configs")
    assert len(listed) == 400
