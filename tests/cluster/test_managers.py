"""Managers come, go, die and return: nothing acknowledged is lost, and the swarm's tasks do not notice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from enxame.testing.cluster import MANAGER_PORT, Machine, change_node
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError, EngineClient
from enxame.testing.ledger import Ledger
from enxame.testing.managers import Managers
from enxame.testing.promises import allowed
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
    wait_until(lambda: change_node(ask.api, swarm_node, Role=role), "its role is changed")
    manages = role == "manager"

    def is_one() -> bool:
        info = machine.swarm()
        return info["ControlAvailable"] is manages and info["LocalNodeState"] == "active"

    wait_until(is_one, f"{machine.network.hostname} is a {role}")
    return time.monotonic() - began


def write_until_accepted(client: EngineClient, name: str, *, within: float = 60.0) -> float:
    """Write through a manager until it is accepted; returns how long that took (seconds)."""
    began = time.monotonic()
    while True:
        try:
            client.post("/configs/create", {"Name": name, "Data": "ZGF0YQ=="})
        except (ApiError, OSError) as error:
            if isinstance(error, ApiError) and error.status == 409:
                return time.monotonic() - began  # the attempt before, whose outcome was not known
            if time.monotonic() - began > within:
                raise
            time.sleep(0.01)
        else:
            return time.monotonic() - began


def test_one_manager_becomes_three_under_load_and_one_again(strangers: Managers, docker: Docker) -> None:
    first, second, third = strangers.managers
    worker = strangers.workers[0]
    first.api.post("/swarm/init", {"ListenAddr": f"0.0.0.0:{MANAGER_PORT}"})
    strangers.join(worker)
    strangers.create_service("web", 2)
    before = running(strangers)
    assert pointer(first) == "sqlite"
    assert docker(first).refused("swarm", "leave").endswith(LAST_MANAGER)

    with Ledger([first]) as ledger:
        wait_until(lambda: len(ledger.acknowledged) > 5, "clients write")
        began = time.monotonic()
        strangers.join(second, JoinToken=strangers.token("Manager"))
        assert time.monotonic() - began < allowed(MANAGER_JOINS_WITHIN)
        assert pointer(first) == "etcd"
        assert TWO_MANAGERS in docker(second).result("info").err
        assert docker(second).refused("swarm", "leave").endswith(ONE_OF_TWO)
        shown = docker(third)("swarm", "join", "--token", strangers.token("Manager"), strangers.address)
        assert shown == "This node joined a swarm as a manager."
        seen = len(ledger.acknowledged)
        wait_until(lambda: len(ledger.acknowledged) > seen + 10, "clients still write")
    ledger.check()
    assert not ledger.refused
    assert not ledger.in_doubt
    assert ledger.longest_gap() < allowed(1.0)

    wait_until(strangers.all_reachable, "all three are reachable")
    for machine in strangers.managers:
        wait_until(lambda machine=machine: machine.swarm()["Managers"] == 3, "it knows of all")
        rows = {row["HOSTNAME"]: row["MANAGER STATUS"] for row in columns(docker(machine)("node", "ls"))}
        assert rows == {"node1": "Leader", "node2": "Reachable", "node3": "Reachable", "node4": ""}
        info = docker(machine)("info")
        assert "Managers: 3" in info
        assert "Nodes: 4" in info
        assert "Is Manager: true" in info
    wait_until(lambda: docker(second).refused("swarm", "leave").endswith(ONE_OF_THREE), "it knows that three agree")
    addresses = {f"{machine.network.host_address}:{MANAGER_PORT}" for machine in strangers.managers}
    wait_until(
        lambda: {manager["Addr"] for manager in worker.swarm()["RemoteManagers"]} == addresses, "the worker knows them"
    )

    with Ledger([first]) as ledger:
        take(strangers, third, "worker")
        take(strangers, second, "worker")
        wait_until(lambda: pointer(first) == "sqlite", "the state is back in one file")
        seen = len(ledger.acknowledged)
        wait_until(lambda: len(ledger.acknowledged) > seen + 10, "clients still write")
    ledger.check()
    assert not ledger.refused
    wait_until(lambda: not list((first.data_root / "swarm").glob("etcd*")), "the members' data is gone")
    for former in (second, third):
        names = {path.name for path in (former.data_root / "swarm").iterdir()}
        assert names == {"certificates", "node.json", "tasks.db", "tasks.db-wal", "tasks.db-shm"}
    assert running(strangers) == before

    take(strangers, second, "manager")
    take(strangers, third, "manager")
    assert running(strangers) == before
    assert {config["Spec"]["Name"] for config in third.api.get("/configs")} >= set(ledger.acknowledged)


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

    def shown() -> dict[str, str]:
        return {row["HOSTNAME"]: row["MANAGER STATUS"] for row in columns(docker(other)("node", "ls"))}

    wait_until(lambda: sorted(shown().values()) == ["", "Leader", "Reachable", "Reachable"], "three managers are left")
    assert shown()[mine] == ""
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
    assert took < allowed(WORKER_JOINS_WITHIN), f"{took:.2f} s"
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


def test_a_manager_leaves_by_force_and_the_others_go_on(
    swarm: Managers, docker: Docker, fresh_client: Callable[[Machine], EngineClient]
) -> None:
    swarm.create_service("web", 4)
    leader = swarm.leader()
    node_id = leader.swarm()["NodeID"]
    stays = swarm.followers()[0]
    assert docker(leader)("swarm", "leave", "--force") == "Node left the swarm."
    assert leader.state() == "inactive"
    assert leader.task_containers() == []
    client = fresh_client(stays)
    assert write_until_accepted(client, "after-it-left") <= allowed(WRITES_AGAIN_WITHIN)
    wait_until(lambda: client.get(f"/nodes/{node_id}")["Status"]["State"] == "down", "it is down")
    wait_until(
        lambda: client.get(f"/nodes/{node_id}")["ManagerStatus"]["Reachability"] == "unreachable", "it is shown so"
    )
    assert docker(stays)("node", "demote", node_id) == f"Manager {node_id} demoted in the swarm."
    wait_until(lambda: "ManagerStatus" not in client.get(f"/nodes/{node_id}"), "it is none any more")
    assert docker(stays)("node", "rm", node_id) == node_id
    token = client.get("/swarm")["JoinTokens"]["Manager"]
    address = f"{stays.network.host_address}:{MANAGER_PORT}"
    leader.api.post("/swarm/join", {"ListenAddr": "0.0.0.0:2377", "RemoteAddrs": [address], "JoinToken": token})
