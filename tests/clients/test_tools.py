"""What dashboards, proxies and schedulers ask of a manager: their very requests, and the fields they read."""

import ipaddress
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from enxame.testing.daemons import Daemon, wait_until
from tests.clients.command import IMAGE, Command
from tests.conftest import remove_containers


@pytest.fixture(scope="module")
def shop(daemon: Daemon) -> Iterator[Daemon]:
    """A swarm of one with an overlay network and a service of two tasks on it."""
    api = daemon.api
    api.post("/swarm/init", {"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": "127.0.0.1"})
    network = api.post("/networks/create", {"Name": "net", "Driver": "overlay", "Attachable": True})["Id"]
    api.post("/secrets/create", {"Name": "secret", "Data": "YQ=="})
    api.post("/configs/create", {"Name": "config", "Data": "YQ=="})
    api.post(
        "/services/create",
        {
            "Name": "web",
            "Labels": {"traefik.enable": "true", "com.docker.stack.namespace": "shop"},
            "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}, "Networks": [{"Target": network}]},
            "Mode": {"Replicated": {"Replicas": 2}},
        },
    )
    wait_until(
        lambda: (
            [task["Status"]["State"] for task in api.get("/tasks", filters={"service": ["web"]})] == ["running"] * 2
        ),
        "two tasks run",
        timeout=60,
    )
    yield daemon
    api.delete("/services/web")
    remove_containers(daemon)


@pytest.fixture
def ask(shop: Daemon) -> Callable[..., Any]:
    """An unversioned or versioned request as it stands, with headers that we do not know; its decoded answer."""

    def get(path: str, method: str = "GET", body: Any = None, status: int = 200) -> Any:
        headers = {"X-PortainerAgent-Signature": "x", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        answered, answer = shop.api.exchange(method, path, data, headers)
        assert answered == status, (path, answered, answer)
        is_document = answer[:1] in (b"{", b"[") and answer.count(b"\n") == 1
        return json.loads(answer) if is_document else answer

    return get


def test_traefiks_poll_finds_where_each_task_is(ask: Callable[..., Any]) -> None:
    assert ask("/version")["ApiVersion"] == "1.47"
    (service,) = ask("/v1.40/services")
    assert service["Spec"]["Name"] == "web"
    assert service["Spec"]["Labels"]["traefik.enable"] == "true"
    assert service["Spec"]["EndpointSpec"]["Mode"] == "vip"
    assert "Global" not in service["Spec"]["Mode"]
    networks = {network["Id"]: network for network in ask('/v1.40/networks?filters={"scope":["swarm"]}')}
    assert {network["Scope"] for network in networks.values()} == {"swarm"}
    vips = {networks[vip["NetworkID"]]["Name"]: vip["Addr"] for vip in service["Endpoint"]["VirtualIPs"]}
    assert ipaddress.ip_interface(vips["net"])
    query = json.dumps({"service": [service["ID"]], "desired-state": ["running"]})
    tasks = ask(f"/v1.40/tasks?filters={query.replace(' ', '')}")
    assert {task["Slot"] for task in tasks} == {1, 2}
    for task in tasks:
        assert task["Status"]["State"] == "running"
        (attached,) = [one for one in task["NetworksAttachments"] if one["Network"]["ID"] in networks]
        assert ipaddress.ip_interface(attached["Addresses"][0]).network.prefixlen == 24
        assert ipaddress.ip_address(ask(f"/v1.40/nodes/{task['NodeID']}")["Status"]["Addr"])


def test_swarm_cronjob_hears_of_updates_and_updates_by_version(ask: Callable[..., Any], shop: Daemon) -> None:
    (service,) = ask('/services?filters={"label":["traefik.enable=true"]}')
    before = ask("/events?since=1&until=1")
    assert before in (b"", [])
    spec = service["Spec"] | {"TaskTemplate": service["Spec"]["TaskTemplate"] | {"ForceUpdate": 1}}
    ask(f"/v1.41/services/{service['ID']}/update?version={service['Version']['Index']}", "POST", spec)

    def told() -> list[dict[str, Any]]:
        lines = ask(f'/events?since=1&until={time.time():.9f}&filters={{"type":["service"]}}')
        events = [lines] if isinstance(lines, dict) else [json.loads(line) for line in lines.splitlines()]
        return [event for event in events if event["Actor"]["Attributes"].get("updatestate.new") == "completed"]

    event = wait_until(told, "the update's end is told", timeout=60)[-1]
    assert event["scope"] == "swarm"
    assert event["Actor"]["Attributes"]["name"] == "web"
    assert "updatestate.old" in event["Actor"]["Attributes"]
    assert ask(f"/services/{service['ID']}")["PreviousSpec"]["Name"] == "web"


def test_portainers_snapshot(ask: Callable[..., Any], shop: Daemon) -> None:
    assert ask("/_ping") == b"OK"
    info = ask("/info")
    assert (info["Swarm"]["LocalNodeState"], info["Swarm"]["ControlAvailable"]) == ("active", True)
    assert info["Containers"] == len(ask("/containers/json?all=1"))
    assert info["ContainersRunning"] == len(ask("/containers/json")) == 2
    assert {"Nodes", "Managers", "NodeID", "RemoteManagers"} <= set(info["Swarm"])
    (node,) = ask("/nodes")
    assert node["ManagerStatus"]["Leader"] is True
    assert node["Description"]["Resources"]["NanoCPUs"] == info["NCPU"] * 10**9
    for container in ask("/containers/json?all=1"):
        seen = ask(f"/containers/{container['Id']}/json")
        assert seen["Config"]["Labels"]["com.docker.swarm.service.name"] == "web"
    assert ask("/images/json")[0]["RepoTags"] == [IMAGE]
    assert isinstance(ask("/volumes")["Volumes"], list)
    for path in ("/secrets", "/configs", "/plugins", "/networks", "/services", "/tasks", "/swarm", "/version"):
        ask(path)


def test_portainers_agent_finds_itself_by_its_hostname(ask: Callable[..., Any]) -> None:
    container = ask("/containers/json")[0]
    assert re.fullmatch(r"[0-9a-f]{64}", container["Id"])
    seen = ask(f"/containers/{container['Id'][:12]}/json")
    assert seen["Config"]["Hostname"] == container["Id"][:12]
    overlays = []
    for name, endpoint in seen["NetworkSettings"]["Networks"].items():
        network = ask(f"/networks/{endpoint['NetworkID']}")
        assert network["Name"] == name
        if network["Scope"] == "swarm" and network["Ingress"] is False and network["Driver"] == "overlay":
            overlays.append(endpoint["IPAddress"])
    assert len(overlays) == 1
    assert ipaddress.ip_address(overlays[0])


def test_swarmpit_and_its_agent(ask: Callable[..., Any]) -> None:
    usage = ask("/v1.44/system/df")
    assert usage["LayersSize"] > 0
    assert usage["Images"][0]["Containers"] == len(usage["Containers"]) >= 2
    container = ask("/v1.44/containers/json")[0]["Id"]
    stats = ask(f"/v1.44/containers/{container}/stats?stream=false")
    assert stats["memory_stats"]["usage"] > 0
    assert {"cpu_usage", "system_cpu_usage", "online_cpus"} <= set(stats["cpu_stats"])
    assert b"listens" in ask(f"/v1.44/containers/{container}/logs?stdout=1&stderr=1&timestamps=1&tail=10")
    secret = ask("/v1.44/secrets")[0]
    assert "Data" not in secret["Spec"]
    spec = secret["Spec"] | {"Labels": {"a": "b"}}
    ask(f"/v1.44/secrets/{secret['ID']}/update?version={secret['Version']['Index']}", "POST", spec)
    assert ask(f"/v1.44/secrets/{secret['ID']}")["Spec"]["Labels"] == {"a": "b"}
    (node,) = ask("/v1.44/nodes")
    spec = node["Spec"] | {"Labels": {"disk": "ssd"}}
    ask(f"/v1.44/nodes/{node['ID']}/update?version={node['Version']['Index']}", "POST", spec)
    ask(f"/v1.44/nodes/{node['ID']}/update?version={node['Version']['Index']}", "POST", spec, status=500)


def test_docker_bench_security_reads_the_tables(docker: Command, shop: Daemon) -> None:
    assert shop.runs()
    told = docker("info")
    assert "Swarm: active" in told
    assert re.search(r"Expiry Duration: \d+ \w+", told)
    assert docker("node", "ls").count("Leader") == 1
    (overlay,) = [
        name
        for id_ in docker("network", "ls", "--filter", "driver=overlay", "-q").split()
        if (name := docker("network", "inspect", "--format", "{{.Name}} {{ .Options }}", id_)).startswith("net ")
    ]
    assert overlay.startswith("net map[")
    assert docker("secret", "ls", "-q")
    assert "SWMKEY" not in docker.result("swarm", "unlock-key").out
    assert docker("version", "--format", "{{ .Server.Version }}")
    assert docker("inspect", "--format", "{{ .HostConfig.Privileged }}", docker("ps", "-q").split()[0]) == "false"


def test_komodos_commands(docker: Command, shop: Daemon) -> None:
    assert shop.runs()
    rows = [json.loads(line) for line in docker("service", "ls", "--format", "{{json .}}").splitlines()]
    assert ("web", "2/2") in [(row["Name"], row["Replicas"]) for row in rows]
    docker("service", "logs", "--tail", "5", "web")
    (config,) = [json.loads(line) for line in docker("config", "ls", "--format", "{{json .}}").splitlines()]
    assert config["Name"] == "config"
    docker("node", "update", "--label-add", "komodo=yes", docker("node", "ls", "-q"))
    docker("service", "update", "--detach", "--label-add", "komodo=yes", "web")
    assert json.loads(docker("service", "inspect", "web"))[0]["Spec"]["Labels"]["komodo"] == "yes"


def test_caprovers_life_of_an_application(ask: Callable[..., Any], shop: Daemon) -> None:
    info, version = ask("/info"), ask("/version")
    assert info["Swarm"]["NodeID"]
    assert version["ApiVersion"]
    (node,) = ask("/nodes")
    assert ask(f"/nodes/{node['ID']}")["Spec"]["Role"] == "manager"
    secret = ask("/secrets/create", "POST", {"Name": "captain-salt", "Data": "YQ==", "Labels": {}}, 201)["ID"]
    assert secret in [one["ID"] for one in ask("/secrets")]
    network = ask(
        "/networks/create",
        "POST",
        {"Name": "captain-overlay", "CheckDuplicate": True, "Driver": "overlay", "Attachable": True},
        201,
    )
    ask("/images/enxame%2Fsample:latest/tag?repo=img-captain--app&tag=1", "POST", status=201)
    application = {
        "Name": "srv-captain--app",
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "img-captain--app:1",
                "Env": ["A=b"],
                "Mounts": [{"Type": "volume", "Source": "captain--data", "Target": "/data"}],
                "Secrets": [
                    {"SecretID": secret, "SecretName": "captain-salt", "File": {"Name": "salt", "UID": "0", "GID": "0"}}
                ],
            },
            "LogDriver": {"Name": "json-file", "Options": {"max-size": "10m"}},
            "Networks": [{"Target": network["Id"]}],
        },
        "Mode": {"Replicated": {"Replicas": 1}},
    }
    service = ask("/services/create", "POST", application, 201)["ID"]
    tasks = "/tasks?filters=" + quote(json.dumps({"service": {"srv-captain--app": True}}))
    wait_until(lambda: [one["Status"]["State"] for one in ask(tasks)] == ["running"], "the application runs")
    seen = ask(f"/services/{service}")
    application["TaskTemplate"]["ContainerSpec"]["Env"] = ["A=c"]  # type: ignore[index]
    ask(f"/services/{service}/update?version={seen['Version']['Index']}", "POST", application)
    assert ask(f"/services/{service}")["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"] == ["A=c"]
    refused, said = shop.api.exchange(
        "POST",
        "/auth",
        json.dumps({"username": "a", "password": "b", "serveraddress": "127.0.0.1:9"}).encode(),
        {"Content-Type": "application/json"},
    )
    assert refused >= 400, said
    ask(f"/services/{service}", "DELETE")
    wait_until(
        lambda: not [one for one in ask("/containers/json?all=1") if "captain" in one["Image"]],
        "its containers are gone",
    )
    ask("/images/img-captain--app:1", "DELETE")
    ask("/volumes/captain--data", "DELETE", status=204)
    ask(f"/secrets/{secret}", "DELETE", status=204)
    ask(f"/networks/{network['Id']}", "DELETE", status=204)
