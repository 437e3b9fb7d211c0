"""The trip of the notes on one machine, word for word, with docker and with enxame."""

import re

import pytest

from enxame.testing.daemons import Daemon, wait_until
from tests.clients.command import IMAGE, Command, columns, until_it_listens
from tests.conftest import remove_containers


@pytest.fixture
def outside_swarm(daemon: Daemon):
    yield daemon
    if daemon.api.get("/info")["Swarm"]["LocalNodeState"] != "inactive":
        daemon.api.post("/swarm/leave", force="1")
    remove_containers(daemon)


def running_tasks(tool: Command) -> list[dict[str, str]]:
    rows = columns(tool("service", "ps", "nginxswarm"))
    return [row for row in rows if row["CURRENT STATE"].startswith("Running")]


def test_the_trip_of_the_notes(tool: Command, outside_swarm: Daemon) -> None:
    host, outside = outside_swarm.network.host, outside_swarm.network.outside
    address = outside_swarm.network.host_address

    assert re.search(r"^ ?Swarm: inactive$", tool("info"), re.M)

    joined = tool("swarm", "init")
    assert re.match(
        r"Swarm initialized: current node \([a-z0-9]{25}\) is now a manager\.\n\nTo add a worker to this swarm, run",
        joined,
    )
    assert re.search(
        rf"^    {tool.name} swarm join --token SWMTKN-1-[0-9a-z]{{50}}-[0-9a-z]{{25}} {address}:2377$", joined, re.M
    )
    assert (
        f"To add a manager to this swarm, run '{tool.name} swarm join-token manager' and follow the instructions."
        in joined
    )

    info = tool("info")
    for line in ("Swarm: active", "Is Manager: true", "Managers: 1", "Nodes: 1", f"Node Address: {address}"):
        assert re.search(rf"^ *{line}$", info, re.M), line

    (node,) = columns(tool("node", "ls"))
    assert re.fullmatch(r"[a-z0-9]{25} \*", node["ID"])
    assert (node["STATUS"], node["AVAILABILITY"], node["MANAGER STATUS"]) == ("Ready", "Active", "Leader")

    created = tool("service", "create", "--name", "nginxswarm", "-p", "80:80", IMAGE)
    assert re.match(r"[a-z0-9]{25}\n", created)
    assert re.search(r"verify: Service (\w+ )?converged", created)

    (service,) = columns(tool("service", "ls"))
    expected = {"NAME": "nginxswarm", "MODE": "replicated", "REPLICAS": "1/1", "IMAGE": IMAGE, "PORTS": "*:80->80/tcp"}
    assert {title: service[title] for title in expected} == expected

    (task,) = columns(tool("service", "ps", "nginxswarm"))
    assert (task["NAME"], task["DESIRED STATE"], task["NODE"]) == ("nginxswarm.1", "Running", node["HOSTNAME"])
    assert re.match(
        r"Running (\d+ seconds|about a minute|less than a second|about a second) ago", task["CURRENT STATE"], re.I
    )

    containers = tool("ps", "-q", "--no-trunc", "--filter", "label=com.docker.swarm.service.name=nginxswarm").split()
    assert len(containers) == 1
    if outside_swarm.name == "enxamed":  # dockerd's routing mesh needs IPVS
        assert outside.http_get(address, 80).strip() == containers[0][:12]
        assert host.http_get("127.0.0.1", 80).strip() == containers[0][:12]

    assert tool("kill", containers[0]) == containers[0]
    wait_until(
        lambda: len(columns(tool("service", "ps", "nginxswarm"))) == 2, "the killed task has a successor", timeout=20
    )
    wait_until(lambda: running_tasks(tool), "the task came back", timeout=30)
    successor, killed = columns(tool("service", "ps", "nginxswarm"))
    assert (successor["NAME"], killed["NAME"]) == ("nginxswarm.1", r"\_ nginxswarm.1")
    assert killed["DESIRED STATE"] == "Shutdown"
    assert killed["CURRENT STATE"].startswith("Failed")
    assert "task: non-zero exit (137)" in killed["ERROR"]
    assert (
        tool("ps", "-q", "--no-trunc", "--filter", "label=com.docker.swarm.service.name=nginxswarm").split()
        != containers
    )

    scaled = tool("service", "scale", "nginxswarm=3")
    assert scaled.startswith("nginxswarm scaled to 3")
    assert columns(tool("service", "ls"))[0]["REPLICAS"] == "3/3"
    if outside_swarm.name == "enxamed":
        answered = {outside.http_get(address, 80).strip() for _ in range(30)}
        shown = {
            line[:12] for line in tool("ps", "-q", "--filter", "label=com.docker.swarm.service.name=nginxswarm").split()
        }
        assert answered == shown
        assert len(answered) == 3

    container = tool("container", "run", "-p", "8080:3000", "-d", "-e", "PORT=3000", IMAGE)
    assert re.fullmatch(r"[0-9a-f]{64}", container)
    until_it_listens(tool, container)
    assert outside.http_get(address, 8080).strip() == container[:12]
    assert host.http_get("127.0.0.1", 8080).strip() == container[:12]

    assert tool("node", "inspect", "self", "--format", "{{.Status.Addr}}") == address

    assert tool("service", "rm", "nginxswarm") == "nginxswarm"
    wait_until(
        lambda: tool("ps", "-aq", "--no-trunc").split() == [container], "the service's containers are gone", timeout=30
    )

    refused = tool.refused("swarm", "leave")
    assert refused == (
        "Error response from daemon: "
        "You are attempting to leave the swarm on a node that is participating as a manager."
        " Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message."
    )
    assert tool("swarm", "leave", "-f") == "Node left the swarm."
    assert re.search(r"^ ?Swarm: inactive$", tool("info"), re.M)
    assert tool("ps", "-q", "--no-trunc").split() == [container]  # not the swarm's: it goes on
