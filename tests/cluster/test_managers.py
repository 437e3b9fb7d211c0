"""Managers come, go, die and return: nothing acknowledged is lost, and the swarm's tasks do not notice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from enxame.testing.cluster import MANAGER_PORT, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError, EngineClient
from enxame.testing.ledger import Ledger
from enxame.testing.managers import Managers
from tests.clients.command import columns

Docker = Callable[[Machine], Any]

#: Promises: seconds.
WRITES_AGAIN_WITHIN = 2.0
MANAGER_JOINS_WITHIN = 3.0
WORKER_JOINS_WITHIN = 0.4

LAST_MANAGER = (
    "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager "
    "erases all current state of the swarm. Use `--force` to ignore this message."
)
ONE_OF_TWO = (
    "You are attempting to leave the swarm on a node that is participating as a manager. Removing this node leaves 1 "
    "managers out of 2. Without a Raft quorum your swarm will be inaccessible. The only way to restore a swarm that "
    "has lost consensus is to reinitialize it with `--force-new-cluster`. Use `--force` to suppress this message."
)
ONE_OF_THREE = (
    "You are attempting to leave the swarm on a node that is participating as a manager. The only way to restore a "
    "swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use `--force` to suppress this "
    "message."
)
NO_LEADER = "The swarm does not have a leader. It's possible that too few managers are online."
TWO_MANAGERS = "Running Swarm in a two-manager configuration"


@pytest.fixture
def swarm(several: Managers) -> Managers:
    return several


def fresh_client(machine: Machine) -> EngineClient:
    """A client of its own: the one at hand may hang with the machine's link."""
    return EngineClient(str(machine.socket), timeout=10)


def pointer(machine: Machine) -> str:
    """Where a manager's state is: sqlite or etcd."""
    path = machine.data_root / "swarm" / "state.json"
    return str(json.loads(path.read_text())["kind"]) if path.exists() else "sqlite"


def running(machines: Managers) -> dict[str, set[str]]:
    """The containers of tasks on each machine."""
    return {machine.network.hostname: set(machine.task_containers()) for machine in machines.machines}


def take(swarm: Managers, machine: Machine, role: str) -> float:
    """Give a node another role and wait until it is what it is to be; returns how long that took (seconds)."""
    began = time.monotonic()
    swarm_node = machine.swarm()["NodeID"]
    ask = next(one for one in swarm.machines if one is not machine and one.swarm()["ControlAvailable"])
    node = ask.api.get(f"/nodes/{swarm_node}")
    spec = {**node["Spec"], "Role": role}
    ask.api.post(f"/nodes/{swarm_node}/update", spec, version=str(node["Version"]["Index"]))
    manages = role == "manager"

    def is_one() -> bool:
        info = machine.swarm()
        return info["ControlAvailable"] is manages and info["LocalNodeState"] == "active"

    wait_until(is_one, f"{machine.network.hostname} is a {role}")
    return time.monotonic() - began


def write_until_accepted(client: EngineClient, name: str, *, within: float = 15.0) -> float:
    """Write through a manager until it is accepted; returns how long that took (seconds)."""
    began = time.monotonic()
    while True:
        try:
            client.post("/configs/create", {"Name": name, "Data": "ZGF0YQ=="})
        except (ApiError, OSError):
            if time.monotonic() - began > within:
                raise
            time.sleep(0.01)
        else:
            return time.monotonic() - began


def test_one_manager_becomes_three_under_load_and_one_again(several_machines: Managers, docker: Docker) -> None:
    first, second, third = several_machines.managers
    worker = several_machines.workers[0]
    first.api.post("/swarm/init", {"ListenAddr": f"0.0.0.0:{MANAGER_PORT}"})
    several_machines.join(worker)
    several_machines.create_service("web", 2)
    before = running(several_machines)
    assert pointer(first) == "sqlite"
    assert docker(first).refused("swarm", "leave").endswith(LAST_MANAGER)

    with Ledger([first]) as ledger:
        wait_until(lambda: len(ledger.acknowledged) > 5, "clients write")
        began = time.monotonic()
        several_machines.join(second, JoinToken=several_machines.token("Manager"))
        assert time.monotonic() - began < MANAGER_JOINS_WITHIN
        assert pointer(first) == "etcd"
        assert TWO_MANAGERS in docker(second).result("info").err
        assert docker(second).refused("swarm", "leave").endswith(ONE_OF_TWO)
        shown = docker(third)("swarm", "join", "--token", several_machines.token("Manager"), several_machines.address)
        assert shown == "This node joined a swarm as a manager."
        seen = len(ledger.acknowledged)
        wait_until(lambda: len(ledger.acknowledged) > seen + 10, "clients still write")
    ledger.check()
    assert not ledger.refused
    assert not ledger.in_doubt
    assert ledger.longest_gap() < 1.0

    for machine in several_machines.managers:
        rows = {row["HOSTNAME"]: row["MANAGER STATUS"] for row in columns(docker(machine)("node", "ls"))}
        assert rows == {"node1": "Leader", "node2": "Reachable", "node3": "Reachable", "node4": ""}
        info = docker(machine)("info")
        assert "Managers: 3" in info
        assert "Nodes: 4" in info
        assert "Is Manager: true" in info
    wait_until(
        lambda: docker(second).refused("swarm", "leave").endswith(ONE_OF_THREE), "all three are reachable", timeout=10
    )
    known = {manager["Addr"] for manager in worker.swarm()["RemoteManagers"]}
    assert known == {f"{machine.network.host_address}:{MANAGER_PORT}" for machine in several_machines.managers}

    with Ledger([first]) as ledger:
        take(several_machines, third, "worker")
        take(several_machines, second, "worker")
        wait_until(lambda: pointer(first) == "sqlite", "the state is back in one file")
        seen = len(ledger.acknowledged)
        wait_until(lambda: len(ledger.acknowledged) > seen + 10, "clients still write")
    ledger.check()
    assert not ledger.refused
    wait_until(lambda: not list((first.data_root / "swarm").glob("etcd*")), "the members' data is gone")
    for former in (second, third):
        names = {path.name for path in (former.data_root / "swarm").iterdir()}
        assert names == {"certificates", "node.json", "tasks.db", "tasks.db-wal", "tasks.db-shm"}
    assert running(several_machines) == before

    take(several_machines, second, "manager")
    take(several_machines, third, "manager")
    assert running(several_machines) == before
    assert {config["Spec"]["Name"] for config in third.api.get("/configs")} >= set(ledger.acknowledged)


def test_a_killed_leader_is_replaced_and_tasks_go_on(swarm: Managers) -> None:
    swarm.create_service("web", 4)
    before = running(swarm)
    tasks = {task["ID"] for task in swarm.tasks("web")}
    leader = swarm.leader()
    other, third = swarm.followers()
    client = fresh_client(other)
    with Ledger([third], writers=1) as ledger:
        wait_until(lambda: len(ledger.acknowledged) > 3, "a client writes")
        leader.kill()
        assert write_until_accepted(client, f"after-{leader.network.hostname}") <= WRITES_AGAIN_WITHIN
        ledger_seen = len(ledger.acknowledged)
        wait_until(lambda: len(ledger.acknowledged) > ledger_seen + 3, "it writes again")

        def standing() -> dict[str, str]:
            return {
                node["Description"]["Hostname"]: "leader" if status.get("Leader") else status["Reachability"]
                for node in client.get("/nodes")
                if (status := node.get("ManagerStatus"))
            }

        wait_until(
            lambda: standing().get(leader.network.hostname) == "unreachable", "the old one is missed", timeout=10
        )
        leader.start()
        wait_until(
            lambda: sorted(standing().values()) == ["leader", "reachable", "reachable"], "it is back", timeout=20
        )
    client.close()
    assert standing_is_the_same(swarm)
    ledger.check()
    after = running(swarm)
    for hostname, containers in before.items():
        if hostname != leader.network.hostname:
            assert containers <= after[hostname], "tasks elsewhere go on"
    still = {task["ID"] for task in swarm.running("web")} & tasks
    assert len(still) >= len(tasks) - len(before[leader.network.hostname])


def standing_is_the_same(swarm: Managers) -> bool:
    """Whether all managers tell the same of each other."""
    told = [
        sorted((node["ID"], str(node.get("ManagerStatus"))) for node in machine.api.get("/nodes"))
        for machine in swarm.managers
    ]
    return all(one == told[0] for one in told)


def test_a_leader_that_is_cut_off_cannot_write_any_more(swarm: Managers) -> None:
    swarm.create_service("web", 4)
    leader = swarm.leader()
    other = swarm.followers()[0]
    old, new = fresh_client(leader), fresh_client(other)
    leader.network.cut()
    assert write_until_accepted(new, "beyond-the-cut") <= WRITES_AGAIN_WITHIN
    for method, path in (("post", "/configs/create"), ("get", "/services"), ("get", "/nodes")):
        with pytest.raises(ApiError) as refused:
            old.post(path, {"Name": "behind-the-cut", "Data": "eA=="}) if method == "post" else old.get(path)
        assert NO_LEADER in refused.value.message
        assert refused.value.status == 500
    assert leader.task_containers(), "its tasks go on"
    leader.network.heal()
    wait_until(lambda: "beyond-the-cut" in config_names(leader), "the old leader follows", timeout=20)
    assert "behind-the-cut" not in config_names(other)
    wait_until(lambda: len(swarm.running("web")) == 4, "all tasks run", timeout=30)
    old.close()
    new.close()


def config_names(machine: Machine) -> set[str]:
    try:
        return {config["Spec"]["Name"] for config in machine.api.get("/configs")}
    except ApiError:
        return set()


def test_without_a_quorum_nothing_changes_and_tasks_go_on(swarm: Managers, docker: Docker) -> None:
    swarm.create_service("web", 4)
    before = running(swarm)
    left = swarm.leader()
    others = swarm.followers()
    for other in others:
        other.kill()
    wait_until(lambda: NO_LEADER in docker(left).result("service", "ls").err, "reads are refused", timeout=10)
    assert NO_LEADER in docker(left).result("service", "create", "-d", "--name", "never", "x").err
    assert "Is Manager: true" in docker(left)("info")
    assert running_of(left) == before[left.network.hostname]
    assert running_of(swarm.workers[0]) == before[swarm.workers[0].network.hostname]
    # A manager that starts alone waits for the others, too.
    left.kill()
    left.start()
    with pytest.raises(ApiError, match="does not have a leader"):
        left.api.get("/services")
    assert running_of(left) == before[left.network.hostname]
    for other in others:
        other.start()
    wait_until(lambda: swarm.leader().runs(), "somebody leads again", timeout=20)
    wait_until(lambda: len(swarm.running("web")) == 4, "all is as it was", timeout=30)
    assert running(swarm) == before
    assert not any(service["Spec"]["Name"] == "never" for service in left.api.get("/services"))


def running_of(machine: Machine) -> set[str]:
    return set(machine.task_containers())


def test_roles_change_by_themselves_and_refusals_are_swarms(swarm: Managers, docker: Docker) -> None:
    leader, worker = swarm.leader(), swarm.workers[0]
    swarm.create_service("web", 4)
    before = running(swarm)
    run = docker(leader)
    name = worker.network.hostname
    assert run("node", "promote", name) == f"Node {name} promoted to a manager in the swarm."
    wait_until(lambda: worker.swarm()["ControlAvailable"] and worker.state() == "active", "it manages")
    wait_until(lambda: worker.api.get("/info")["Swarm"]["Managers"] == 4, "it knows")
    refused = run.refused("node", "rm", "-f", name)
    assert refused.endswith("It must be demoted to worker before removal")
    # The leader itself: another one leads by then.
    other = swarm.followers()[0]
    mine = leader.network.hostname
    assert docker(other)("node", "demote", mine) == f"Manager {mine} demoted in the swarm."
    wait_until(lambda: not leader.swarm()["ControlAvailable"] and leader.state() == "active", "it works")
    rows = {row["HOSTNAME"]: row["MANAGER STATUS"] for row in columns(docker(other)("node", "ls"))}
    assert rows[mine] == ""
    assert sorted(rows.values()) == ["", "Leader", "Reachable", "Reachable"]
    take(swarm, leader, "manager")
    take(swarm, worker, "worker")
    assert running(swarm) == before
    # With one of three gone, demoting another one would leave none that agree.
    gone, stays = swarm.followers()
    gone.kill()
    asked = docker(stays)
    wait_until(lambda: "Unreachable" in asked("node", "ls"), "it is missed", timeout=15)
    assert asked.refused("node", "demote", stays.network.hostname).endswith(
        "can't remove member from the raft: this would result in a loss of quorum"
    )
    gone.start()


def test_a_worker_joins_through_any_manager_and_a_daemon_killed_while_it_joins_tries_again(
    swarm: Managers, docker: Docker
) -> None:
    follower = swarm.followers()[0]
    worker = swarm.workers[0]
    node = worker.swarm()["NodeID"]
    worker.api.post("/swarm/leave")
    follower.api.delete(f"/nodes/{node}", force="1")
    began = time.monotonic()
    swarm.join(worker, RemoteAddrs=[f"{follower.network.host_address}:{MANAGER_PORT}"])
    took = time.monotonic() - began
    assert worker.state() == "active"
    assert took < WORKER_JOINS_WITHIN * 2, f"{took:.2f} s"
    # Killed in the middle of becoming a manager, at any moment: it becomes one after all.
    for moment in (0.05, 0.12, 0.2, 0.3):
        node = worker.swarm()["NodeID"]
        spec = swarm.nodes()[node]
        swarm.update(node, Role="manager")
        time.sleep(moment)
        worker.kill()
        worker.start()
        wait_until(
            lambda: worker.swarm()["ControlAvailable"] and worker.state() == "active",
            f"it manages although it was killed after {moment} s",
            timeout=40,
        )
        wait_until(lambda: sorted(swarm.standing().values()).count("reachable") == 3, "all are reachable", timeout=20)
        assert spec["ID"] == worker.swarm()["NodeID"]
        take(swarm, worker, "worker")


def test_a_manager_leaves_by_force_and_the_others_go_on(swarm: Managers, docker: Docker) -> None:
    swarm.create_service("web", 4)
    leader = swarm.leader()
    node_id = leader.swarm()["NodeID"]
    stays = swarm.followers()[0]
    assert docker(leader)("swarm", "leave", "--force") == "Node left the swarm."
    assert leader.state() == "inactive"
    assert leader.task_containers() == []
    client = fresh_client(stays)
    assert write_until_accepted(client, "after-it-left") <= WRITES_AGAIN_WITHIN
    (gone,) = [node for node in client.get("/nodes") if node["ID"] == node_id]
    assert gone["Status"]["State"] == "down"
    wait_until(
        lambda: client.get(f"/nodes/{node_id}")["ManagerStatus"]["Reachability"] == "unreachable", "it is shown so"
    )
    assert docker(stays)("node", "demote", node_id) == f"Manager {node_id} demoted in the swarm."
    wait_until(lambda: "ManagerStatus" not in client.get(f"/nodes/{node_id}"), "it is none any more")
    assert docker(stays)("node", "rm", node_id) == node_id
    token = client.get("/swarm")["JoinTokens"]["Manager"]
    address = f"{stays.network.host_address}:{MANAGER_PORT}"
    leader.api.post("/swarm/join", {"ListenAddr": "0.0.0.0:2377", "RemoteAddrs": [address], "JoinToken": token})
    client.close()


def test_all_daemons_killed_and_started_again(swarm: Managers) -> None:
    swarm.create_service("web", 4)
    before = running(swarm)
    swarm.managers[0].api.post("/configs/create", {"Name": "last-word", "Data": "eA=="})
    for machine in swarm.machines:
        machine.kill()
    with ThreadPoolExecutor(len(swarm.machines)) as pool:
        list(pool.map(lambda machine: machine.start(), swarm.machines))
    leader = swarm.leader()
    assert "last-word" in config_names(leader)
    wait_until(lambda: len(swarm.running("web")) == 4, "all tasks run", timeout=40)
    assert running(swarm) == before


def test_a_hanging_leader_is_replaced_and_stands_back(swarm: Managers) -> None:
    leader = swarm.leader()
    other = swarm.followers()[0]
    client = fresh_client(other)
    swarm.freeze(leader, whole=False)
    try:
        assert write_until_accepted(client, "while-it-hung") <= 8.0
    finally:
        swarm.thaw()
    wait_until(lambda: "while-it-hung" in config_names(leader), "it follows", timeout=20)
    client.close()
