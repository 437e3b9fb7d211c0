"""Any manager will do: everything through one that does not lead, with the stock command and our own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from enxame.testing.cluster import Machine
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError
from enxame.testing.managers import Managers
from enxame.testing.promises import allowed
from tests.clients.command import IMAGE, Command, columns, docker_programs

ENXAME = str(Path(sys.executable).with_name("enxame"))
ON_A_WORKER = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this "
    "command on a manager node or promote the current node to a manager."
)
NETWORK_ON_A_WORKER = (
    "Cannot create a multi-host network from a worker node. Please create the network from a manager node."
)


@pytest.fixture(params=[*docker_programs()[:1], ENXAME], ids=lambda program: Path(program).name)
def command(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Machine], Command]:
    return lambda machine: Command(request.param, machine, tmp_path)


@pytest.fixture
def follower(several: Managers) -> Machine:
    return several.followers()[0]


def test_services_through_a_manager_that_does_not_lead(several: Managers, follower: Machine, command) -> None:
    run, leaders = command(follower), command(several.leader())
    assert "converged" in run("service", "create", "--name", "web", "--replicas", "4", "--label", "a=b", IMAGE)
    (row,) = columns(run("service", "ls"))
    assert (row["NAME"], row["REPLICAS"]) == ("web", "4/4")
    assert columns(leaders("service", "ls")) == [row]
    assert {task["CURRENT STATE"].split()[0] for task in columns(run("service", "ps", "web"))} == {"Running"}
    assert re.search(r"Replicas:\s+4\n", run("service", "inspect", "--pretty", "web"))
    run("service", "scale", "-d", "web=2")
    wait_until(lambda: columns(run("service", "ls"))[0]["REPLICAS"] == "2/2", "there are two")
    run("service", "update", "-d", "--env-add", "A=1", "web")
    run("service", "update", "-d", "--rollback", "web")
    (shown,) = json.loads(run("service", "inspect", "web"))
    assert "Env" not in shown["Spec"]["TaskTemplate"]["ContainerSpec"]
    refused = run.result("service", "create", "-d", "--name", "web", IMAGE)
    assert refused.code == 1
    assert "name conflicts with an existing object" in refused.err
    assert run("service", "rm", "web") == "web"
    assert run("service", "ls", "-q") == ""


def test_payloads_networks_and_a_stack_through_a_manager_that_does_not_lead(
    several: Managers, follower: Machine, command, tmp_path: Path
) -> None:
    run, leaders = command(follower), command(several.leader())
    for noun in ("secret", "config"):
        made = run(noun, "create", "one", "-", stdin="data")
        assert run(noun, "ls", "-q") == made
        assert json.loads(leaders(noun, "inspect", "one"))[0]["ID"] == made
        assert run(noun, "rm", "one") == "one"
    made = run("network", "create", "-d", "overlay", "--attachable", "over")
    assert leaders("network", "inspect", "-f", "{{.ID}}", "over") == made
    run("network", "create", "mine")
    assert {"over", "mine", "ingress", "bridge"} <= set(run("network", "ls", "--format", "{{.Name}}").split())
    assert "mine" not in leaders("network", "ls", "--format", "{{.Name}}").split()
    assert sorted(run("network", "rm", "over", "mine").split()) == ["mine", "over"]
    if Path(run.program).name == "docker":
        compose = {
            "version": "3.8",
            "services": {"box": {"image": IMAGE, "configs": ["text"]}},
            "configs": {"text": {"file": str(tmp_path / "text")}},
        }
        (tmp_path / "text").write_text("hello\n")
        (tmp_path / "stack.yml").write_text(json.dumps(compose))
        run("stack", "deploy", "-c", str(tmp_path / "stack.yml"), "st")
        assert columns(run("stack", "services", "st"))[0]["NAME"] == "st_box"
        wait_until(lambda: "Running" in run("stack", "ps", "st"), "the stack runs")
        run("stack", "rm", "st")
        assert run("config", "ls", "-q") == ""


def test_nodes_and_the_swarm_through_a_manager_that_does_not_lead(
    several: Managers, follower: Machine, command
) -> None:
    leader = several.leader()
    run, leaders = command(follower), command(leader)
    rows = {row["HOSTNAME"]: row for row in columns(run("node", "ls"))}
    assert {row["STATUS"] for row in rows.values()} == {"Ready"}
    expected = {
        machine.network.hostname: "Leader" if machine is leader else "Reachable" for machine in several.managers
    }
    assert {name: row["MANAGER STATUS"] for name, row in rows.items()} == {**expected, "node4": ""}
    own = follower.network.hostname
    assert [name for name, row in rows.items() if row["ID"].endswith("*")] == [own]
    pretty = re.sub(r"[ \t]+", " ", run("node", "inspect", "--pretty", "self"))
    assert f"Hostname: {own}\n" in pretty
    address = f"{follower.network.host_address}:2377"
    assert f"Manager Status:\n Address: {address}\n Raft Status: Reachable\n Leader: No\n" in pretty
    run("node", "update", "--label-add", "x=y", "node4")
    assert leaders("node", "inspect", "-f", "{{.Spec.Labels.x}}", "node4") == "y"
    run("node", "update", "--label-rm", "x", "node4")
    assert run("swarm", "join-token", "-q", "manager") == several.token("Manager")
    assert "BEGIN CERTIFICATE" in run("swarm", "ca")
    assert run("swarm", "update", "--task-history-limit", "6") == "Swarm updated."
    assert "Task History Retention Limit: 6" in leaders("info")
    run("swarm", "update", "--task-history-limit", "5")
    wait_until(lambda: "Task History Retention Limit: 5" in run("info"), "the copy of the state has it")
    told = run("info")
    addresses = "".join(f"\n   {machine.network.host_address}:2377" for machine in several.managers)
    assert f"  Node Address: {follower.network.host_address}\n  Manager Addresses:{addresses}\n" in told
    assert "  Is Manager: true\n" in told
    assert "  Managers: 3\n  Nodes: 4\n" in told


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    yield from process.stdout


def test_logs_are_followed_through_a_manager_that_does_not_lead(several: Managers, follower: Machine, command) -> None:
    counting = "trap exit TERM; i=0; while sleep 0.2; do i=$((i+1)); echo tick $i; done"
    several.create_service("clock", 4, "sh", "-c", counting)
    run = command(follower)
    process = subprocess.Popen(
        [run.program, "service", "logs", "-f", "--raw=false", "clock"],
        env=run.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        seen: dict[str, int] = {}
        began = time.monotonic()
        for line in _lines(process):
            found = re.fullmatch(r"clock\.(\d)\.\w+@(node\d) +\| tick (\d+)\n", line)
            assert found, line
            assert int(found[3]) == seen.get(found[1], 0) + 1, "no line is lost or told twice"
            seen[found[1]] = int(found[3])
            if len(seen) == 4 and min(seen.values()) >= 8:
                break
        assert time.monotonic() - began < allowed(20)
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()  # type: ignore[union-attr]
    text = run("service", "logs", "--tail", "1", "clock")
    assert len(text.splitlines()) == 4


def test_events_of_the_swarm_are_told_by_every_manager(several: Managers, follower: Machine, command) -> None:
    run, since = command(follower), time.time()
    several.leader().api.post("/configs/create", {"Name": "told", "Data": "YQ=="})
    try:
        form = ("--format", "{{.Scope}} {{.Type}} {{.Action}} {{.Actor.Attributes.name}}", "--filter", "type=config")

        def told() -> bool:
            span = ("--since", f"{since:.3f}", "--until", f"{time.time():.3f}")
            return run("events", *span, *form) == "swarm config create told"

        wait_until(told, "the event is told")
    finally:
        run("config", "rm", "told")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/swarm", None),
        ("GET", "/swarm/unlockkey", None),
        ("GET", "/nodes", None),
        ("GET", "/nodes/self", None),
        ("GET", "/services", None),
        ("GET", "/services/x", None),
        ("GET", "/services/x/logs?stdout=1", None),
        ("GET", "/tasks", None),
        ("GET", "/tasks/x", None),
        ("GET", "/secrets", None),
        ("GET", "/configs/x", None),
        ("POST", "/swarm/update?version=1", {}),
        ("POST", "/nodes/x/update?version=1", {"Role": "worker", "Availability": "active"}),
        ("POST", "/services/create", {"Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}}}),
        ("POST", "/services/x/update?version=1", {"Name": "x"}),
        ("POST", "/secrets/create", {"Name": "x", "Data": "YQ=="}),
        ("POST", "/configs/x/update?version=1", {"Name": "x"}),
        ("DELETE", "/services/x", None),
        ("DELETE", "/nodes/x", None),
        ("DELETE", "/secrets/x", None),
    ],
)
def test_a_worker_refuses_in_swarms_words(several: Managers, method: str, path: str, body: object) -> None:
    with pytest.raises(ApiError) as refused:
        several.workers[0].api.call(method, path, body)
    assert (refused.value.status, refused.value.message) == (503, ON_A_WORKER)


def test_a_worker_has_its_own_networks_alone(several: Managers, command) -> None:
    run = command(several.workers[0])
    refused = run.result("network", "create", "-d", "overlay", "over")
    assert (refused.code, refused.err) == (1, f"Error response from daemon: {NETWORK_ON_A_WORKER}\n")
    run("network", "create", "mine")
    assert run("network", "rm", "mine") == "mine"
    told = run("info")
    assert "  Is Manager: false\n" in told
    assert "ClusterID" not in told
    assert f"   {several.managers[2].network.host_address}:2377\n" in told
