"""Nodes, links and managers that die: what is noticed, what is replaced, and that nothing runs twice."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from enxame.testing.cluster import Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.promises import allowed

#: Promises: seconds.
DOWN_WITHIN = 3.5
ELSEWHERE_WITHIN = 4.0


def started_at(machine: Machine, container: str) -> tuple[int, str]:
    """What changes when a container is started again: the process and the moment."""
    state = machine.api.get(f"/containers/{container}/json")["State"]
    return state["Pid"], state["StartedAt"]


def container_counts(cluster: Cluster) -> list[int]:
    return [len(machine.task_containers()) for machine in cluster.machines]


@contextmanager
def slow_heartbeats(cluster: Cluster) -> Iterator[None]:
    """Nodes are given the time that a daemon needs to start on a slow machine before they are missed."""
    set_heartbeat(cluster, 30)
    time.sleep(
        DOWN_WITHIN
    )  # who is not missed by then has sent a heartbeat, and heard in the answer when the next is due
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes have heard of it")
    try:
        yield
    finally:
        set_heartbeat(cluster, 5)  # the default
        for worker in cluster.workers:  # they would hear of it in half a minute only
            worker.stop()
            worker.start()


def set_heartbeat(cluster: Cluster, seconds: int) -> None:
    swarm = cluster.manager.api.get("/swarm")
    spec = {**swarm["Spec"], "Dispatcher": {"HeartbeatPeriod": seconds * 1_000_000_000}}
    cluster.manager.api.post("/swarm/update", spec, version=str(swarm["Version"]["Index"]))


def test_a_killed_worker_daemon_finds_its_tasks_running(cluster: Cluster) -> None:
    worker = cluster.workers[0]
    cluster.create_service("web", 6)
    before = {container: started_at(worker, container) for container in worker.task_containers()}
    tasks = {task["ID"] for task in cluster.tasks("web")}
    assert len(before) == 2

    with slow_heartbeats(cluster):
        worker.kill()
        worker.start()

        assert {container: started_at(worker, container) for container in worker.task_containers()} == before
        wait_until(lambda: worker.state() == "active", "the session is back")
        wait_until(lambda: {task["ID"] for task in cluster.running("web")} == tasks, "its tasks are told to run")
        assert {task["ID"] for task in cluster.tasks("web")} == tasks


def test_a_worker_daemon_that_restarts_in_order_keeps_its_tasks(cluster: Cluster) -> None:
    worker = cluster.workers[0]
    node_id = worker.swarm()["NodeID"]
    cluster.create_service("web", 6)
    before = {container: started_at(worker, container) for container in worker.task_containers()}
    tasks = {task["ID"] for task in cluster.tasks("web")}

    worker.stop()
    stopped_at = time.monotonic()
    status = cluster.nodes()[node_id]["Status"]
    assert status["Message"] == "its daemon restarts: expected back within 20 s"
    states = set()
    while time.monotonic() < stopped_at + 2 * DOWN_WITHIN:  # what is tested is time: a crash would be noticed by then
        states.add(cluster.states()[node_id])
        time.sleep(0.1)
    worker.start()

    wait_until(lambda: "Message" not in cluster.nodes()[node_id]["Status"], "the session is back")
    assert states == {"ready"}
    assert {container: started_at(worker, container) for container in worker.task_containers()} == before
    wait_until(lambda: {task["ID"] for task in cluster.running("web")} == tasks, "its tasks are told to run")
    assert {task["ID"] for task in cluster.tasks("web")} == tasks


def test_a_cut_off_worker_is_down_and_replaced_in_time_and_nothing_runs_twice_when_it_is_back(
    cluster: Cluster, docker
) -> None:
    worker = cluster.workers[0]
    node_id = worker.swarm()["NodeID"]
    cluster.create_service("web", 6)
    assert cluster.spread("web")[node_id] == 2

    worker.network.cut()
    cut_at = time.monotonic()
    wait_until(lambda: cluster.states()[node_id] == "down", "the node is down", timeout=10)
    down_after = time.monotonic() - cut_at
    wait_until(lambda: len(cluster.running("web")) == 6, "its tasks run elsewhere", timeout=10)
    elsewhere_after = time.monotonic() - cut_at
    assert down_after <= allowed(DOWN_WITHIN)
    assert elsewhere_after <= allowed(ELSEWHERE_WITHIN)

    assert cluster.nodes()[node_id]["Status"]["Message"] == "heartbeat failure"
    assert "Down" in docker(cluster.manager)("node", "ls", "--filter", f"id={node_id}")
    left_behind = [task for task in cluster.tasks("web") if task["NodeID"] == node_id]
    assert [(task["DesiredState"], task["Status"]["State"]) for task in left_behind] == [("shutdown", "running")] * 2
    assert len(worker.task_containers()) == 2, "a worker that hears nobody goes on"
    assert worker.state() == "active"

    worker.network.heal()
    wait_until(lambda: cluster.states()[node_id] == "ready", "it is back", timeout=20)
    wait_until(lambda: container_counts(cluster) == [3, 0, 3], "the old tasks are gone", timeout=20)
    assert len(cluster.running("web")) == 6

    def told() -> bool:
        states = {task["Status"]["State"] for task in cluster.tasks("web") if task["NodeID"] == node_id}
        return states <= {"shutdown", "complete", "failed"}

    wait_until(told, "the manager heard of their end", timeout=20)


def test_a_short_cut_is_no_failure(cluster: Cluster) -> None:
    worker = cluster.workers[0]
    cluster.create_service("web", 3)
    tasks = {task["ID"] for task in cluster.tasks("web")}
    states = set()
    worker.network.cut()
    cut_at = time.monotonic()
    while time.monotonic() < cut_at + 1.0:
        states |= set(cluster.states().values())
    worker.network.heal()
    while time.monotonic() < cut_at + 6.0:
        states |= set(cluster.states().values())
        time.sleep(0.05)
    assert states == {"ready"}
    assert {task["ID"] for task in cluster.tasks("web")} == tasks


def test_a_stopped_manager_that_goes_on_blames_nobody(cluster: Cluster) -> None:
    cluster.create_service("web", 3)
    tasks = {task["ID"] for task in cluster.tasks("web")}
    os.kill(cluster.manager.pid, signal.SIGSTOP)
    time.sleep(8)  # what is tested is time: more than two nodes' whole patience
    os.kill(cluster.manager.pid, signal.SIGCONT)
    seen = set()
    end = time.monotonic() + 16
    while time.monotonic() < end:
        seen |= set(cluster.states().values())
        time.sleep(0.1)
    assert seen == {"ready"}
    assert {task["ID"] for task in cluster.tasks("web")} == tasks
    assert all(worker.state() == "active" for worker in cluster.workers)


def test_a_stopped_worker_that_goes_on_has_nothing_twice(cluster: Cluster) -> None:
    worker = cluster.workers[0]
    node_id = worker.swarm()["NodeID"]
    cluster.create_service("web", 3)
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: cluster.states()[node_id] == "down", "it is missed", timeout=10)
        wait_until(lambda: len(cluster.running("web")) == 3, "its task runs elsewhere")
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    wait_until(lambda: cluster.states()[node_id] == "ready", "it is back", timeout=20)
    wait_until(lambda: sum(container_counts(cluster)) == 3, "nothing runs twice")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_workers_go_on_without_their_manager_and_find_it_again(cluster: Cluster, how: str) -> None:
    cluster.create_service("web", 6)
    containers = {container for worker in cluster.workers for container in worker.task_containers()}
    tasks = {task["ID"] for task in cluster.tasks("web")}
    assert len(containers) == 4

    getattr(cluster.manager, how)()
    worker = cluster.workers[0]
    worker.kill()
    worker.start()  # without any manager
    assert {container for worker in cluster.workers for container in worker.task_containers()} == containers
    assert {worker.state() for worker in cluster.workers} <= {"active", "pending"}
    cluster.manager.start()

    seen = set()

    def all_ready() -> bool:
        states = set(cluster.states().values())
        seen.update(states)
        return states == {"ready"}

    wait_until(all_ready, "all nodes report", timeout=15)
    assert seen <= {"ready", "unknown"}
    wait_until(lambda: {worker.state() for worker in cluster.workers} == {"active"}, "the workers know of it")
    wait_until(lambda: {task["ID"] for task in cluster.running("web")} == tasks, "its tasks are told to run")
    assert {container for worker in cluster.workers for container in worker.task_containers()} == containers


def test_a_node_that_stays_away_over_a_restart_of_the_manager_is_missed(cluster: Cluster) -> None:
    worker = cluster.workers[0]
    node_id = worker.swarm()["NodeID"]
    cluster.create_service("web", 3)
    worker.network.cut()
    cluster.manager.kill()
    cluster.manager.start()
    wait_until(lambda: cluster.states()[node_id] in ("unknown", "down"), "nobody says that it is ready")
    wait_until(lambda: cluster.states()[node_id] == "down", "it is missed", timeout=25)
    wait_until(lambda: len(cluster.running("web")) == 3, "its task runs elsewhere")


def test_what_was_removed_meanwhile_ends_when_the_node_is_back(cluster: Cluster) -> None:
    worker = cluster.workers[0]
    node_id = worker.swarm()["NodeID"]
    cluster.create_service("web", 3)
    worker.network.cut()
    wait_until(lambda: cluster.states()[node_id] == "down", "the node is down", timeout=10)
    cluster.manager.api.delete("/services/web")
    wait_until(lambda: container_counts(cluster) == [0, 1, 0], "the others are gone")
    worker.network.heal()
    wait_until(lambda: container_counts(cluster) == [0, 0, 0], "all are gone", timeout=20)
    wait_until(lambda: not cluster.manager.api.get("/tasks"), "no task is left")


def test_removing_a_lost_node_orphans_its_tasks(cluster: Cluster, docker) -> None:
    worker = cluster.workers[0]
    node_id = worker.swarm()["NodeID"]
    cluster.create_service("web", 3)
    worker.network.cut()
    wait_until(lambda: cluster.states()[node_id] == "down", "the node is down", timeout=10)
    assert docker(cluster.manager)("node", "rm", node_id) == node_id
    wait_until(
        lambda: {t["Status"]["State"] for t in cluster.tasks("web") if t["NodeID"] == node_id} <= {"orphaned"},
        "its task is given up",
    )
    worker.network.heal()
    wait_until(lambda: worker.state() == "error", "it hears that it was removed", timeout=20)
    wait_until(lambda: worker.task_containers() == [], "and ends its tasks")
