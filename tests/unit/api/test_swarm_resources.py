"""Swarm, nodes, services, tasks, secrets, configs, networks through HTTP, over a real manager."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

from enxame.model.stream import LogRecord
from enxame.model.task import Task, TaskInternal, TaskState, TaskStatus

AUTH = base64.urlsafe_b64encode(json.dumps({"username": "u", "password": "hidden"}).encode()).decode()


def spec(name: str = "web", **fields: Any) -> dict[str, Any]:
    return {
        "Name": name,
        "TaskTemplate": {"ContainerSpec": {"Image": "nginx:latest"}},
        "Mode": {"Replicated": {"Replicas": 2}},
        **fields,
    }


def filters(**wanted: list[str]) -> str:
    return quote(json.dumps(wanted))


async def test_a_service_is_made_read_updated_listed_and_removed(swarm: Any) -> None:
    made = await swarm.json("POST", "/v1.41/services/create", spec(), status=201, headers={"X-Registry-Auth": AUTH})
    service = await swarm.json("GET", "/v1.41/services/web?insertDefaults=true")
    assert service["ID"] == made["ID"]
    assert service["Spec"]["EndpointSpec"]["Mode"] == "vip"
    assert service["Spec"]["TaskTemplate"]["RestartPolicy"]["Condition"] == "any"
    path = f"/services/{made['ID']}/update?version={service['Version']['Index']}"
    answer = await swarm.json("POST", path, spec(Labels={"a": "b"}))
    assert answer["Warnings"] is None or answer["Warnings"] == []
    changed = await swarm.json("GET", "/services/web")
    assert (changed["Spec"]["Labels"], changed["PreviousSpec"]["Labels"]) == ({"a": "b"}, {})
    status, message = await swarm.message("POST", path, json=spec())
    assert (status, "update out of sequence" in message) == (500, True)
    listed = await swarm.json("GET", f"/services?status=true&filters={filters(label=['a=b'])}")
    assert [one["ServiceStatus"] for one in listed] == [{"RunningTasks": 0, "DesiredTasks": 2, "CompletedTasks": 0}]
    assert await swarm.json("GET", f"/services?filters={filters(name=['other'])}") == []
    await swarm.json("DELETE", "/services/web")
    assert await swarm.message("GET", "/services/web") == (404, "service web not found")


async def test_credentials_and_inner_state_are_never_shown(swarm: Any) -> None:
    made = await swarm.json("POST", "/services/create", spec(), status=201, headers={"X-Registry-Auth": AUTH})
    await swarm.membership.manager.store.update(
        lambda tx: tx.create(
            Task(id="t" * 25, service_id=made["ID"], internal=TaskInternal(registry_auth=AUTH, service_name="web"))
        )
    )
    seen = json.dumps(
        [
            await swarm.json("GET", path)
            for path in ("/services", "/services/web", "/tasks", f"/tasks/{'t' * 25}", "/swarm", "/nodes", "/info")
        ]
    )
    assert AUTH not in seen
    assert "RegistryAuth" not in seen
    assert "PRIVATE KEY" not in seen


async def test_only_the_swarm_itself_shows_join_tokens(swarm: Any) -> None:
    shown = await swarm.json("GET", "/swarm")
    token = shown["JoinTokens"]["Worker"]
    assert token.startswith("SWMTKN-1-")
    assert token not in json.dumps(await swarm.json("GET", "/info"))
    await swarm.json("POST", f"/swarm/update?version={shown['Version']['Index']}&rotateWorkerToken=true", shown["Spec"])
    assert (await swarm.json("GET", "/swarm"))["JoinTokens"]["Worker"] != token
    assert await swarm.json("GET", "/swarm/unlockkey") == {"UnlockKey": ""}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/swarm/update", "invalid swarm version '': strconv.ParseUint: parsing \"\": invalid syntax"),
        (
            "/services/web/update?version=x",
            "invalid service version 'x': strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        (
            "/nodes/self/update?version=-1",
            "invalid node version '-1': strconv.ParseUint: parsing \"-1\": invalid syntax",
        ),
        (
            f"/secrets/s/update?version={1 << 64}",
            f"invalid secret version '{1 << 64}': strconv.ParseUint: parsing \"{1 << 64}\": value out of range",
        ),
        (
            "/swarm/update?version=1&rotateWorkerToken=maybe",
            'invalid value for rotateWorkerToken: maybe: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        ("/services/web/update?version=1&registryAuthFrom=mars", "unsupported registryAuthFrom value"),
    ],
)
async def test_bad_queries_of_updates(swarm: Any, path: str, message: str) -> None:
    assert await swarm.message("POST", path, json={}) == (400, message)


async def test_a_secrets_data_goes_in_and_never_out(swarm: Any) -> None:
    data = base64.b64encode(b"top secret").decode()
    made = await swarm.json("POST", "/secrets/create", {"Name": "s", "Data": data}, status=201)
    secret = await swarm.json("GET", "/secrets/s")
    assert (secret["ID"], secret["Spec"]) == (made["ID"], {"Name": "s", "Labels": {}})
    assert data not in json.dumps(await swarm.json("GET", "/secrets"))
    await swarm.json(
        "POST", f"/secrets/s/update?version={secret['Version']['Index']}", {"Name": "s", "Labels": {"a": "b"}}
    )
    assert (await swarm.json("GET", "/secrets/s"))["Spec"]["Labels"] == {"a": "b"}
    assert await swarm.json("DELETE", "/secrets/s", status=204) is None
    assert (await swarm.message("GET", "/secrets/s"))[0] == 404


async def test_a_configs_data_is_shown(swarm: Any) -> None:
    data = base64.b64encode(b"listen 80").decode()
    await swarm.json("POST", "/configs/create", {"Name": "c", "Data": data}, status=201)
    assert (await swarm.json("GET", "/configs/c"))["Spec"]["Data"] == data
    assert [one["Spec"]["Name"] for one in await swarm.json("GET", f"/configs?filters={filters(name=['c'])}")] == ["c"]
    assert await swarm.json("DELETE", "/configs/c", status=204) is None


async def test_nodes_are_read_and_updated(swarm: Any) -> None:
    node = await swarm.json("GET", "/nodes/self")
    assert node["ManagerStatus"] == {"Leader": True, "Reachability": "reachable", "Addr": "10.0.0.1:2377"}
    await swarm.json(
        "POST",
        f"/nodes/{node['ID']}/update?version={node['Version']['Index']}",
        {"Role": "manager", "Availability": "drain", "Labels": {"disk": "ssd"}},
    )
    assert (await swarm.json("GET", "/nodes"))[0]["Spec"]["Availability"] == "drain"
    assert (await swarm.message("GET", f"/nodes?filters={filters(colour=['red'])}")) == (400, "invalid filter 'colour'")


async def test_networks_of_both_scopes_are_one_list(swarm: Any) -> None:
    names = {(one["Name"], one["Scope"]) for one in await swarm.json("GET", "/networks")}
    assert names == {("bridge", "local"), ("host", "local"), ("ingress", "swarm")}
    made = await swarm.json(
        "POST", "/networks/create", {"Name": "ov1", "Driver": "overlay", "Attachable": True}, status=201
    )
    overlay = await swarm.json("GET", "/networks/ov1")
    assert (overlay["Id"], overlay["Scope"], overlay["Driver"], overlay["Containers"]) == (
        made["Id"],
        "swarm",
        "overlay",
        {},
    )
    assert await swarm.message("POST", "/networks/create", json={"Name": "ov1"}) == (
        409,
        "network with name ov1 already exists",
    )
    await swarm.json("POST", "/networks/create", {"Name": "br1", "Driver": "bridge"}, status=201)
    assert {one["Name"] for one in await swarm.json("GET", f"/networks?filters={filters(scope=['swarm'])}")} == {
        "ingress",
        "ov1",
    }
    assert await swarm.message("GET", "/networks/br1?scope=swarm") == (404, "network br1 not found")
    await swarm.json("DELETE", "/networks/ov1", status=204)
    await swarm.json("DELETE", f"/networks/{'d' * 12}", status=204)
    assert (await swarm.message("GET", "/networks/br1"))[0] == 404


async def test_predefined_networks_have_a_swarm_side_that_services_refer_to(swarm: Any) -> None:
    assert (await swarm.json("GET", "/networks/host"))["Id"] == "a" * 64
    assert (await swarm.json("GET", "/networks/host?scope=swarm"))["Id"] == "h" * 25


async def test_services_attach_to_networks_of_the_swarm_alone(swarm: Any) -> None:
    await swarm.json("POST", "/networks/create", {"Name": "br1"}, status=201)
    template: dict[str, Any] = {"ContainerSpec": {"Image": "web:1"}, "Networks": [{"Target": "br1"}]}
    spec = {"Name": "web", "TaskTemplate": template}
    refused = (
        "The network br1 cannot be used with services. Only networks scoped to the swarm can be used, such as those "
        "created with the overlay driver."
    )
    assert await swarm.message("POST", "/services/create", json=spec) == (403, refused)
    assert await swarm.message("POST", "/services/web/update?version=1", json=spec) == (403, refused)
    template["Networks"] = [{"Target": "nosuch"}]
    assert await swarm.message("POST", "/services/create", json=spec) == (404, "network nosuch not found")
    template["Networks"] = [{"Target": "host"}]
    await swarm.json("POST", "/services/create", spec, status=201)


async def test_a_network_that_nodes_make_is_the_swarms(swarm: Any) -> None:
    await swarm.json("POST", "/networks/create", {"Name": "plan"}, status=201)
    asked = {"Name": "wire", "Driver": "macvlan", "Scope": "swarm", "ConfigFrom": {"Network": "plan"}}
    made = await swarm.json("POST", "/networks/create", {**asked, "Attachable": True}, status=201)
    shown = await swarm.json("GET", "/networks/wire")
    assert (shown["Id"], shown["Scope"], shown["Driver"]) == (made["Id"], "swarm", "macvlan")
    assert (shown["ConfigFrom"], shown["IPAM"]["Config"], shown["Attachable"]) == ({"Network": "plan"}, [], True)
    assert await swarm.message("POST", "/networks/create", json={**asked, "Name": "plan"}) == (
        409,
        "network with name plan already exists",
    )
    await swarm.json("DELETE", "/networks/wire", status=204)


async def test_a_local_network_shows_its_containers_in_inspect_alone(swarm: Any) -> None:
    assert list((await swarm.json("GET", "/networks/bridge"))["Containers"]) == ["c" * 64]
    assert all(one["Containers"] == {} for one in await swarm.json("GET", "/networks"))


async def test_networks_that_nodes_make_need_a_swarm(served: Any) -> None:
    asked = {"Name": "wire", "Driver": "macvlan", "Scope": "swarm", "ConfigFrom": {"Network": "plan"}}
    assert await served.message("POST", "/networks/create", json=asked) == (
        403,
        "cannot create a swarm scoped network when swarm is not active",
    )


async def test_overlays_need_a_manager(served: Any) -> None:
    status, message = await served.message("POST", "/networks/create", json={"Name": "ov", "Driver": "overlay"})
    assert (status, message.startswith("This node is not a swarm manager.")) == (503, True)


async def test_service_logs_carry_where_lines_come_from(swarm: Any) -> None:
    made = await swarm.json("POST", "/services/create", spec(), status=201)
    task = Task(
        id="t" * 25,
        service_id=made["ID"],
        node_id="n" * 25,
        status=TaskStatus(state=TaskState.RUNNING),
        desired_state=TaskState.RUNNING,
    )
    await swarm.membership.manager.store.update(lambda tx: tx.create(task))
    swarm.membership.log_lines = [LogRecord(2, "2026-01-01T00:00:00.000000001Z", b"hello\n")]
    response = await swarm.get("/v1.41/services/web/logs?stderr=1&stdout=1&details=1&timestamps=1")
    body = await response.read()
    assert body[:4] == b"\x02\0\0\0"
    assert body[8:].decode() == (
        "2026-01-01T00:00:00.000000001Z "
        f"com.docker.swarm.node.id={'n' * 25},com.docker.swarm.service.id={made['ID']},"
        f"com.docker.swarm.task.id={'t' * 25} hello\n"
    )
    assert (await swarm.message("GET", "/services/web/logs"))[0] == 400
    plain = await swarm.get(f"/tasks/{'t' * 25}/logs?stderr=1")
    assert (await plain.read())[8:] == b"hello\n"


async def test_events_come_as_lines_with_the_old_names_beside_the_new(served: Any) -> None:
    async with asyncio.timeout(5):
        response = await served.get(f"/events?filters={filters(type=['container'])}")
        served.engine.events.publish("network", "create", "n" * 64, {})
        served.engine.events.publish("container", "start", "c" * 64, {"name": "box", "image": "nginx"})
        event = json.loads(await response.content.readline())
    assert (event["status"], event["id"], event["from"]) == ("start", "c" * 64, "nginx")
    assert (event["Type"], event["Action"], event["Actor"]["Attributes"]["name"]) == ("container", "start", "box")
    response.close()


async def test_info_has_what_the_stock_command_prints(swarm: Any) -> None:
    info = await swarm.json("GET", "/info")
    assert info["Swarm"]["LocalNodeState"] == "active"
    assert info["Swarm"]["Cluster"]["ID"] == "c" * 25
    assert info["NCPU"] > 0
    assert info["MemTotal"] > 1 << 20
    assert info["CgroupVersion"] in ("1", "2")
    assert info["RegistryConfig"]["IndexConfigs"]["docker.io"]["Official"] is True
    version = await swarm.json("GET", "/version")
    assert (version["ApiVersion"], version["MinAPIVersion"], version["Os"]) == ("1.47", "1.24", "linux")
    assert version["Components"][0]["Name"] == "Engine"
