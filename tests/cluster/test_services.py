"""Services over several nodes."""

import re

import pytest

from enxame.testing.cluster import Cluster
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError
from tests.clients.command import IMAGE, columns


def test_a_service_spreads_evenly(cluster: Cluster, docker) -> None:
    command = docker(cluster.manager)
    created = command("service", "create", "--name", "web", "--replicas", "6", IMAGE)
    assert re.search(r"verify: Service (\w+ )?converged", created)
    assert sorted(cluster.spread("web").values()) == [2, 2, 2]
    rows = columns(command("service", "ps", "web"))
    assert sorted(row["NODE"] for row in rows) == ["node1", "node1", "node2", "node2", "node3", "node3"]
    assert all(row["CURRENT STATE"].startswith("Running") for row in rows)
    assert [len(machine.task_containers()) for machine in cluster.machines] == [2, 2, 2]
    assert len(columns(command("node", "ps", "node2"))) == 2


def test_a_global_service_runs_once_on_every_node(cluster: Cluster, docker) -> None:
    docker(cluster.manager)("service", "create", "--name", "agent", "--mode", "global", IMAGE)
    assert sorted(cluster.spread("agent").values()) == [1, 1, 1]


def test_a_drained_node_gives_its_tasks_away_and_gets_some_again(cluster: Cluster, docker) -> None:
    worker = cluster.workers[0]
    node_id = worker.swarm()["NodeID"]
    cluster.create_service("web", 6)
    command = docker(cluster.manager)
    assert command("node", "update", "--availability", "drain", "node2") == "node2"
    wait_until(lambda: len(cluster.running("web")) == 6 and node_id not in cluster.spread("web"), "its tasks moved")
    wait_until(lambda: worker.task_containers() == [], "nothing runs there")
    assert columns(command("node", "ls", "--filter", "name=node2"))[0]["AVAILABILITY"] == "Drain"

    command("node", "update", "--availability", "active", "node2")
    command("service", "scale", "web=8")
    assert cluster.spread("web")[node_id] == 2


def test_a_paused_node_keeps_its_tasks_and_gets_no_more(cluster: Cluster) -> None:
    node_id = cluster.workers[0].swarm()["NodeID"]
    cluster.create_service("web", 3)
    cluster.update(node_id, Availability="pause")
    cluster.create_service("more", 4)
    assert cluster.spread("web")[node_id] == 1
    assert node_id not in cluster.spread("more")


def test_tasks_follow_labels_and_roles(cluster: Cluster, docker) -> None:
    command = docker(cluster.manager)
    node_id = cluster.workers[1].swarm()["NodeID"]
    command("node", "update", "--label-add", "disk=ssd", "node3")
    on_label = {"Placement": {"Constraints": ["node.labels.disk==ssd"]}}
    cluster.create_service("db", 2, TaskTemplate=on_label)
    assert cluster.spread("db") == {node_id: 2}
    on_workers = {"Placement": {"Constraints": ["node.role==worker"]}}
    cluster.create_service("web", 4, TaskTemplate=on_workers)
    assert sorted(cluster.spread("web").values()) == [2, 2]
    assert cluster.manager.swarm()["NodeID"] not in cluster.spread("web")

    command("node", "update", "--label-rm", "disk", "node3")
    wait_until(lambda: not cluster.running("db"), "its tasks are evicted: no node meets the constraint")
    assert cluster.workers[1].task_containers()


def test_secrets_get_to_the_nodes_that_need_them(cluster: Cluster) -> None:
    secret = cluster.manager.api.post("/secrets/create", {"Name": "key", "Data": "aHVzaA=="})["ID"]
    try:
        reference = {
            "SecretID": secret,
            "SecretName": "key",
            "File": {"Name": "key", "UID": "0", "GID": "0", "Mode": 256},
        }
        cluster.create_service(
            "vault",
            1,
            TaskTemplate={
                "ContainerSpec": {"Secrets": [reference]},
                "Placement": {"Constraints": ["node.hostname==node2"]},
            },
        )
        holders = [
            machine.network.hostname
            for machine in cluster.machines
            if any(path.read_bytes() == b"hush" for path in machine.exec_root.glob("payloads/*/*"))
        ]
        assert holders == ["node2"]
    finally:
        cluster.manager.api.delete("/services/vault")
        cluster.manager.api.delete(f"/secrets/{secret}")


def test_logs_come_from_every_node(cluster: Cluster, docker) -> None:
    cluster.create_service("talk", 3, "sh", "-c", 'echo "hello from $(hostname)"; exec sleep 3600')
    assert len(cluster.spread("talk")) == 3
    command = docker(cluster.manager)

    def lines() -> list[str]:
        return command("service", "logs", "--raw", "talk").splitlines()

    wait_until(lambda: len(lines()) == 3, "three lines")
    assert len(set(lines())) == 3
    shown = command("service", "logs", "talk")
    assert set(re.findall(r"@(node\d)", shown)) == {"node1", "node2", "node3"}


def test_logs_say_which_node_does_not_answer(cluster: Cluster, docker) -> None:
    worker = cluster.workers[0]
    node_id = worker.swarm()["NodeID"]
    cluster.create_service("talk", 3, "sh", "-c", 'echo "hello from $(hostname)"; exec sleep 3600')
    worker.network.cut()
    wait_until(lambda: cluster.states()[node_id] == "down", "the node is down", timeout=10)
    result = docker(cluster.manager).result("service", "logs", "--raw", "talk")
    expected = (
        "warning: incomplete log stream. some logs could not be retrieved for the following reasons: "
        f"node {node_id} is not available"
    )
    assert expected in result.out + result.err
    assert (result.out + result.err).count("hello from") >= 2


def test_a_worker_refuses_networks_of_the_swarm(cluster: Cluster) -> None:
    with pytest.raises(ApiError, match="Cannot create a multi-host network from a worker node"):
        cluster.workers[0].api.post("/networks/create", {"Name": "over", "Driver": "overlay"})
