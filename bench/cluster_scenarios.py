"""The scenarios of several machines: five of them, three managers."""

import sys
import time
from collections.abc import Callable
from itertools import count

from bench.lab import POLL, median, percentile, seconds
from bench.machines import MACHINES, MANAGERS, Machines, accepts_a_write, burners
from bench.scenarios import Measurements
from enxame.testing.daemons import wait_until

#: How long a manager may take to answer a write that decides how long nobody does, at most: seconds.
PATIENCE = 2.0
#: How long nothing may happen while the processors are busy: seconds.
CALM = 600.0
BURNERS = 2
LOST = 60.0


def joining(machines: Machines) -> Measurements:
    """From the join call until the node is ready in the manager's list."""
    return {"join_s": median(machines.joins), "join_manager_s": median(machines.manager_joins)}


def writes(machines: Machines) -> Measurements:
    """How long it takes three managers to take a service."""
    taken: list[float] = []
    services = []
    for number in range(60):
        with seconds() as one:
            services.append(machines.create_service(f"write{number}", 0))
        taken += one
    for service in services:
        machines.remove_service(service)
    return {"cluster_create_p50_ms": median(taken) * 1000, "cluster_create_p99_ms": percentile(taken, 99) * 1000}


def fifty_on_five(machines: Machines) -> Measurements:
    """Fifty replicas on five nodes."""
    taken: list[float] = []
    for number in range(3):
        with seconds() as created:
            service = machines.create_service(f"fifty{number}", 50)
            machines.wait_running(service, 50)
        taken += created
        machines.remove_service(service)
    return {"cluster_fifty_s": median(taken)}


def lost_worker(machines: Machines) -> Measurements:
    """A worker's cable is pulled."""
    host = machines.hosts[-1]
    service = machines.create_service("lost", 2 * MACHINES)
    machines.wait_running(service, 2 * MACHINES)
    node_id = machines.nodes()[host.hostname]["ID"]
    host.cut()
    cut_at = time.perf_counter()
    wait_until(lambda: machines.state(host) == "down", "the node is down", timeout=LOST, interval=POLL)
    down = time.perf_counter() - cut_at
    wait_until(
        lambda: machines.running_elsewhere(service, node_id) == 2 * MACHINES,
        "its tasks run elsewhere",
        timeout=LOST,
        interval=POLL,
    )
    elsewhere = time.perf_counter() - cut_at
    host.heal()
    wait_until(lambda: machines.state(host) == "ready", "the node is back", timeout=LOST, interval=POLL)
    machines.remove_service(service)
    return {"node_down_s": down, "tasks_elsewhere_s": elsewhere}


def lost_leader(machines: Machines) -> Measurements:
    """The leader's cable is pulled; the other managers are asked in turn to take a write."""
    leader = machines.leader()
    others = [number for number in range(MANAGERS) if number != leader]
    host = machines.hosts[leader]
    names = count()
    machines.asked = others[0]
    host.cut()
    cut_at = time.perf_counter()
    wait_until(
        lambda: any(
            accepts_a_write(machines.daemons[number].socket, f"after{next(names)}", PATIENCE) for number in others
        ),
        "a write is taken",
        timeout=LOST,
        interval=POLL,
    )
    taken = time.perf_counter() - cut_at
    host.heal()
    wait_until(lambda: machines.leader() != leader, "the old leader follows", timeout=LOST)
    wait_until(lambda: len(machines.reachable()) == MANAGERS, "all managers take part", timeout=LOST)
    return {"write_after_leader_s": taken}


def calm(machines: Machines) -> Measurements:
    """Ten minutes with busy processors in which nothing is wrong: who is accused all the same?"""
    accused: dict[str, str] = {}
    slowest = 0.0
    with burners(BURNERS):
        end = time.monotonic() + CALM
        while time.monotonic() < end:
            asked = time.monotonic()
            for name, node in machines.nodes().items():
                manager = node.get("ManagerStatus", {}).get("Reachability", "reachable")
                if node["Status"]["State"] != "ready" or manager != "reachable":
                    accused.setdefault(f"{name}: {node['Status']['State']}, {manager}", time.strftime("%H:%M:%S"))
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.2)
    for what, when in accused.items():
        print(f"{when} {what}", file=sys.stderr)
    return {"false_alarms": float(len(accused)), "slowest_list_s": slowest}


CLUSTER_SCENARIOS: dict[str, Callable[[Machines], Measurements]] = {
    "joining": joining,
    "writes": writes,
    "fifty-on-five": fifty_on_five,
    "lost-worker": lost_worker,
    "lost-leader": lost_leader,
    "calm": calm,
}
#: Only when it is asked for: it takes long.
ON_REQUEST = frozenset({"calm"})
