"""A manager that does not lead passes requests on."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from enxame.api import forwarding
from enxame.errors import PermissionDenied
from enxame.model.node import ManagerStatus, Node, NodeDescription, NodeSpec
from enxame.model.stream import LogRecord
from enxame.model.task import Task, TaskState, TaskStatus
from enxame.transport import dialer
from enxame.transport.identity import client_context
from enxame.transport.methods import API_FORWARD, ForwardRequest
from tests.unit.api.two_managers import NO_LEADER, WEB, Lab, identity, two_managers


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """Manager ``a`` leads; clients ask ``b``."""
    monkeypatch.setattr(forwarding, "PATIENCE", 1.0)
    async with two_managers(tmp_path) as made:
        yield made


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


async def test_hundreds_of_requests_go_through_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "PATIENCE", 60.0)
    bodies = [{"Name": f"c{number}", "Data": "eA=="} for number in range(400)]
    lab.second.client.connector._limit = 0  # type: ignore[union-attr]
    answers = await asyncio.gather(*(lab.second.ask("POST", "/configs/create", body) for body in bodies))
    assert {status for status, _ in answers} == {201}
    _, listed = await lab.second.ask("GET", "/configs")
    assert len(listed) == 400
