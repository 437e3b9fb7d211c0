"""Networks of the swarm that nodes make from configurations of their own, and those that every node has, through the
stock docker command and enxame.
"""

import json
from collections.abc import Iterator

import pytest

from enxame.testing.daemons import Daemon, wait_until
from enxame.testing.engine_client import ApiError
from tests.clients.command import IMAGE, Command, columns

OWN = "user specified configurations are not supported if the network depends on a configuration network"
OPTIONS = "network driver options are not supported if the network depends on a configuration network"
OPERATOR = "configuration network can only contain network specific fields"


@pytest.fixture(autouse=True)
def tidy(swarm: Daemon) -> Iterator[None]:
    yield
    for service in swarm.api.get("/services"):
        swarm.api.delete(f"/services/{service['ID']}")
    wait_until(lambda: not left(swarm), "the networks can be removed", timeout=60)


def left(daemon: Daemon) -> list[str]:
    for container in daemon.api.get("/containers/json"):
        if "com.docker.swarm.task.id" not in container["Labels"]:
            daemon.api.delete(f"/containers/{container['Id']}", force="1")
    found = [net for net in daemon.api.get("/networks", filters={"type": ["custom"]}) if not net["Ingress"]]
    for network in found:
        try:
            daemon.api.delete(f"/networks/{network['Id']}")
        except ApiError as error:
            if error.status == 500:
                raise
    return [network["Name"] for network in found]


def states(tool: Command, service: str) -> list[dict[str, str]]:
    tasks = tool("service", "ps", "--no-trunc", "--format", "{{json .}}", service)
    return [json.loads(line) for line in tasks.splitlines()]


def runs(tool: Command, service: str) -> None:
    def running() -> bool:
        return any(task["CurrentState"].startswith("Running") for task in states(tool, service))

    wait_until(running, f"{service} runs")


def inspected(tool: Command, network: str) -> dict:
    (found,) = json.loads(tool("network", "inspect", network))
    return found


def test_a_network_is_made_from_the_nodes_configuration_while_it_is_used(tool: Command) -> None:
    tool("network", "create", "--config-only", "--subnet", "10.77.5.0/24", "--label", "from=plan", "plan")
    tool("network", "create", "--scope", "swarm", "-d", "bridge", "--config-from", "plan", "--attachable", "own")
    shown = inspected(tool, "own")
    assert (shown["Scope"], shown["Driver"], shown["IPAM"]["Config"]) == ("swarm", "bridge", [])
    assert shown["ConfigFrom"] == {"Network": "plan"}
    listed = {row["NAME"]: (row["DRIVER"], row["SCOPE"]) for row in columns(tool("network", "ls"))}
    assert (listed["own"], listed["plan"]) == (("bridge", "swarm"), ("null", "local"))
    tool("service", "create", "-d", "--name", "web", "--network", "name=own,alias=front", IMAGE)
    runs(tool, "web")
    shown = inspected(tool, "own")
    assert [config["Subnet"] for config in shown["IPAM"]["Config"]] == ["10.77.5.0/24"]
    assert (shown["Labels"], len(shown["Containers"])) == ({"from": "plan"}, 1)
    assert "10.77.5.2" in tool("run", "--rm", "--network", "own", IMAGE, "nslookup", "front")
    assert "in use by service" in tool.refused("network", "rm", "own")
    assert 'configuration network "plan" is in use' in tool.refused("network", "rm", "plan")
    tool("service", "rm", "web")
    wait_until(lambda: tool.result("network", "rm", "plan").code == 0, "nothing is left of the network here")
    assert inspected(tool, "own")["IPAM"]["Config"] == []
    assert set(tool("network", "prune", "-f").splitlines()[1:]) == {"own"}


def test_tasks_are_rejected_where_the_configuration_is_missing_until_it_is_there(tool: Command) -> None:
    tool("network", "create", "--scope", "swarm", "-d", "macvlan", "--config-from", "plan", "wire")
    restarts = ("--restart-delay", "200ms")
    port = ("--publish", "mode=host,published=8095,target=80")
    tool("service", "create", "-d", "--name", "web", "--network", "wire", *restarts, *port, IMAGE)

    def rejected() -> bool:
        task = states(tool, "web")[-1]
        reason = 'configuration network "plan" does not exist'
        return task["CurrentState"].startswith("Rejected") and reason in task["Error"]

    wait_until(rejected, "the task is rejected")
    link = ("--subnet", "203.0.113.0/24", "-o", "parent=eth0")
    tool("network", "create", "--config-only", *link, "plan")
    runs(tool, "web")
    assert inspected(tool, "wire")["Options"] == {"parent": "eth0"}
    assert [task["Ports"] for task in states(tool, "web")] == [""] * len(states(tool, "web")), "it is open on the wire"
    mode = ("{{json .Endpoint.VirtualIPs}}", "web")
    assert list(json.loads(tool("service", "inspect", "-f", *mode))[0]) == ["NetworkID"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--scope", "swarm", "-d", "macvlan", "--config-from", "plan", "--subnet", "10.1.0.0/24"), OWN),
        (("--scope", "swarm", "-d", "macvlan", "--config-from", "plan", "--label", "a=b"), OWN),
        (("--scope", "swarm", "-d", "macvlan", "--config-from", "plan", "-o", "parent=eth0"), OPTIONS),
        (("--config-from", "plan", "-o", "a=b"), OPTIONS),
        (("--config-from", "nosuch"), 'configuration network "nosuch" does not exist'),
        (("--config-only", "--scope", "swarm"), OPERATOR),
        (("--config-only", "--attachable"), OPERATOR),
        (("--config-only", "--internal"), OPERATOR),
        (("--config-only", "--config-from", "plan"), "cannot depend on another configuration network"),
        (("--scope", "swarm", "-d", "macvlan"), "--config-from"),
        (("--scope", "swarm", "-d", "host"), 'only one instance of "host" network is allowed'),
        (("--scope", "swarm", "-d", "weird"), 'plugin "weird" not found'),
        (("-d", "overlay", "--config-from", "plan"), "cannot depend on a configuration network"),
    ],
)
def test_what_cannot_be_is_refused_in_dockers_words(enxame: Command, flags: tuple[str, ...], message: str) -> None:
    enxame("network", "create", "--config-only", "plan")
    assert message in enxame.refused("network", "create", *flags, "other")


def test_services_attach_to_the_hosts_network_and_the_default_bridge(tool: Command) -> None:
    tool("service", "create", "-d", "--name", "h", "--network", "host", IMAGE)
    runs(tool, "h")
    tool("service", "create", "-d", "--name", "b", "--network", "bridge", "-p", "8087:80", IMAGE)
    runs(tool, "b")
    task = ("--filter", "label=com.docker.swarm.service.name=b")
    networks = tool("ps", *task, "--format", "{{.Networks}}")
    assert set(networks.split(",")) == {"bridge", "ingress"}
    tool("service", "create", "-d", "--name", "hp", "--network", "host", "-p", "8088:80", IMAGE)
    reason = "container cannot be disconnected from host network or connected to host network"
    wait_until(lambda: any(reason in task["Error"] for task in states(tool, "hp")), "the task is rejected")
    tool("network", "create", "loc")
    for network in ("none", "loc", "nosuch"):
        refused = tool.refused("service", "create", "-d", "--name", "no", "--network", network, IMAGE)
        # Old commands say so in words of their own.
        assert f"network {network} not found" in refused or f"No such network: {network}" in refused
