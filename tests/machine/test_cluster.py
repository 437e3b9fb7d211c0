"""Swarms of local machines in one command."""

from pathlib import Path

from enxame.testing.daemons import wait_until
from enxame.testing.sample_image import DEFAULT_TAG as IMAGE
from tests.clients.command import columns
from tests.machine.lab import ENXAME, MachineLab


def test_a_cluster_is_made_used_stopped_started_and_removed(lab: MachineLab, sample: Path) -> None:
    before = lab.holdings()
    said = lab("cluster", "create", "lab", "--managers", "3", "--workers", "2", "-p", "8080:80")
    assert 'Current context is now "lab"' in said
    assert "lab-manager-1" in lab.result("docker", "--context", "lab", "node", "ls").out
    managers = ["lab-manager-1", "lab-manager-2", "lab-manager-3"]
    names = [*managers, "lab-worker-1", "lab-worker-2"]
    assert sorted(lab("node", "ls", "--format", "{{.Hostname}}").split()) == names
    standings = sorted(lab("node", "ls", "--format", "{{.ManagerStatus}}").split())
    assert standings == ["Leader", "Reachable", "Reachable"]
    manager = lab.environment_of(names[0])
    nodes = columns(lab.result("docker", "node", "ls", **manager).out)
    assert {(node["HOSTNAME"], node["STATUS"]) for node in nodes} == {(name, "Ready") for name in names}
    (row,) = columns(lab("cluster", "ls"))
    assert (row["NAME"], row["MANAGERS"], row["WORKERS"], row["PORTS"]) == ("lab", "3/3", "2/2", "8080->80/tcp")
    roles = {row["NAME"]: row["SWARM"] for row in columns(lab("machine", "ls"))}
    assert roles == {name: "manager" if name in managers else "worker" for name in names}

    for name in names:
        lab("machine", "ssh", name, f"enxame load -q -i {sample}")
    lab(
        "service",
        "create",
        "-q",
        "--no-resolve-image",
        "--name",
        "web",
        "--replicas",
        "3",
        "-p",
        "80:80",
        IMAGE,
        **manager,
    )
    for address in ("127.0.0.1", LAB_ADDRESS):
        assert wait_until(lambda address=address: answer(lab, address), f"{address}:8080 answers")

    lab("cluster", "stop", "lab")
    assert columns(lab("cluster", "ls"))[0]["MANAGERS"] == "0/3"
    lab("cluster", "start", "lab")
    ready = wait_until(
        lambda: lab.result(ENXAME, "node", "ls", "--format", "{{.Status}}", **manager).out.split() == ["Ready"] * 5,
        "all ready",
    )
    assert ready
    lab("cluster", "rm", "lab")
    assert lab("context", "ls", "-q") == "default"
    assert lab("context", "show") == "default"
    assert lab("cluster", "ls", "-q") == ""
    assert lab("machine", "ls", "-q") == ""
    assert lab.holdings() == before


LAB_ADDRESS = "10.99.0.1"


def answer(lab: MachineLab, address: str) -> str:
    try:
        return lab.network.host.http_get(address, 8080, timeout=2)
    except OSError:
        return ""


def test_a_cluster_that_fails_is_undone(lab: MachineLab) -> None:
    before = lab.holdings()
    lab("machine", "create", "c-worker-1")
    assert '"c-worker-1" already exists' in lab.refused("cluster", "create", "c", "--workers", "1")
    assert lab("machine", "ls", "-q") == "c-worker-1"
    lab("machine", "rm", "-y", "c-worker-1")
    lab("cluster", "create", "first", "-p", "8081:80")
    with_first = lab.holdings()
    # What another cluster publishes is seen last, when all machines are there.
    said = lab.refused("cluster", "create", "c", "--workers", "1", "-p", "8081:80")
    assert "port 8081/tcp of this host is published by cluster first" in said
    assert lab("cluster", "ls", "-q") == "first"
    assert lab("machine", "ls", "-q") == "first-manager-1"
    assert lab.holdings() == with_first
    lab("cluster", "rm", "first")
    assert lab.holdings() == before


def test_a_port_that_is_taken_is_told_before_anything_is_made(lab: MachineLab) -> None:
    with lab.network.host.open_socket() as taken:
        taken.bind(("0.0.0.0", 8080))
        taken.listen()
        said = lab.refused("cluster", "create", "c", "-p", "8080:80")
    assert "port 8080/tcp of this host: Address already in use" in said
    assert lab("machine", "ls", "-q") == ""
    assert 'no such cluster: "nobody"' in lab.refused("cluster", "rm", "nobody")
