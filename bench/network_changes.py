"""How soon networks follow what happens: ``python -m bench.network_changes [--rounds N]`` (as root).

Three machines, a service of three tasks, and on each machine a container that asks for ``tasks.<service>`` again and
again (about 300 times a second) and one that looks at its rules for the virtual address. Measured is how long the last
of them takes

* to name and choose a task, from the moment when its machine says that it is healthy,
* to let go of one whose process was killed, from that moment,
* to let go of one that is told to stop, from the moment of its signal (before it: less than nothing),
* to let go of the tasks of a machine that is cut off, from the moment when the manager says that the node is down.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from bench.lab import median
from enxame.testing import sample_image
from enxame.testing.cluster import Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import EngineClient
from enxame.testing.namespace import enter_network_namespace

_SECOND: Final = 1_000_000_000
_QUESTION: Final = b"\x12\x34\x01\x00\0\1\0\0\0\0\0\0\x05tasks\x03web\0\0\1\0\1"
_PAUSE: Final = 0.002


class Watcher:
    """Somebody in a container who looks again and again; knows since when it has been as it is (seconds, wall)."""

    def __init__(self, pid: int, look: Callable[[], frozenset[str]]) -> None:
        self._path, self._look = f"/proc/{pid}/ns/net", look
        self._ended = threading.Event()
        self._seen: list[tuple[float, frozenset[str]]] = [(0.0, frozenset())]
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        enter_network_namespace(self._path)
        while not self._ended.wait(_PAUSE):
            with suppress(OSError):
                found = self._look()
                if found != self._seen[-1][1]:
                    self._seen.append((time.time(), found))

    def since(self, wanted: frozenset[str]) -> float:
        """Since when it has been so; waits until it is."""
        wait_until(lambda: self._seen[-1][1] == wanted, "it is seen everywhere", interval=0.01)
        return self._seen[-1][0]

    def close(self) -> None:
        self._ended.set()
        self._thread.join(10)


def names() -> frozenset[str]:
    """What ``tasks.web`` leads to, asked where the calling thread is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(1)
        asker.sendto(_QUESTION, ("127.0.0.11", 53))
        answer = asker.recv(4096)
    count = struct.unpack_from("!H", answer, 6)[0]
    return frozenset(socket.inet_ntoa(answer[start + 12 : start + 16]) for start in range(27, 27 + 16 * count, 16))


def chosen() -> frozenset[str]:
    """Who may be chosen for the virtual address, by the rules where the calling thread is."""
    listed = subprocess.run(
        ["nft", "-j", "list", "map", "ip", "enxame-vips", "backends"], capture_output=True, text=True, check=False
    )
    found: set[str] = set()
    for item in json.loads(listed.stdout or '{"nftables": []}')["nftables"]:
        # The kernel was told no types: nft shows numbers.
        found |= {str(IPv4Address(int(pair[1].split()[0], 16))) for pair in item.get("map", {}).get("elem", ())}
    return frozenset(found)


class Moments:
    """When something happened, by a daemon's events (seconds, wall)."""

    def __init__(self, machine: Machine) -> None:
        self._seen: list[dict[str, Any]] = []
        self._client = EngineClient(str(machine.socket), timeout=600)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(OSError, ValueError), self._client.stream("GET", "/events") as answer:
            while line := answer.readline():
                self._seen.append(json.loads(line))

    def of(self, what: Callable[[dict[str, Any]], bool], after: float) -> float:
        """When the first such event after a moment was; waits for it."""

        def found() -> float:
            moments = (event["timeNano"] / 1e9 for event in list(self._seen) if what(event))
            return next((moment for moment in moments if moment >= after), 0.0)

        return wait_until(found, "the event comes")


class Room:
    """The machines, who looks, and the service."""

    def __init__(self, cluster: Cluster, stack: ExitStack) -> None:
        self.cluster, self.api = cluster, cluster.manager.api
        body = {"Name": "app", "Driver": "overlay", "Attachable": True}
        self.network = str(self.api.post("/networks/create", body)["Id"])
        self.moments = {machine: Moments(machine) for machine in cluster.machines}
        self.machines = {machine.swarm()["NodeID"]: machine for machine in cluster.machines}
        probe = ["CMD", "test", "-e", "/tmp/well"]
        health = {"Test": probe, "Interval": _SECOND // 10, "Timeout": 5 * _SECOND, "Retries": 1000}
        spec = {
            "Name": "web",
            "TaskTemplate": {
                "ContainerSpec": {"Image": sample_image.DEFAULT_TAG, "Healthcheck": health},
                "Networks": [{"Target": "app"}],
                "RestartPolicy": {"Condition": "none"},
                "Placement": {"MaxReplicas": 1},
            },
            "Mode": {"Replicated": {"Replicas": 0}},
        }
        self.api.post("/services/create", spec)
        self.watchers: dict[Machine, list[Watcher]] = {}
        for machine in cluster.machines:
            settings = {"Image": sample_image.DEFAULT_TAG, "HostConfig": {"NetworkMode": "app"}}
            container = machine.api.post("/containers/create", settings)["Id"]
            machine.api.post(f"/containers/{container}/start")
            pid = machine.api.get(f"/containers/{container}/json")["State"]["Pid"]
            self.watchers[machine] = [Watcher(pid, names), Watcher(pid, chosen)]
            for watcher in self.watchers[machine]:
                stack.callback(watcher.close)

    def scale(self, replicas: int, **template: Any) -> None:
        """Ask for so many, and for new ones with ``template``."""
        current = self.api.get("/services/web")
        spec = current["Spec"]
        spec["Mode"]["Replicated"]["Replicas"] = replicas
        spec["TaskTemplate"].update(template)
        self.api.post("/services/web/update", spec, version=str(current["Version"]["Index"]))

    def tasks(self, state: str) -> list[dict[str, Any]]:
        """Its tasks in a state, meant to run."""
        found = self.api.get("/tasks", filters={"service": ["web"], "desired-state": ["running"]})
        return [task for task in found if task["Status"]["State"] == state and "ContainerStatus" in task["Status"]]

    def last(self, serving: frozenset[str], but: Machine | None = None) -> float:
        """When the last of all who look saw that these serve."""
        seen = [watcher for machine, watchers in self.watchers.items() if machine is not but for watcher in watchers]
        return max(watcher.since(serving) for watcher in seen)

    def started(self, count: int) -> Iterator[tuple[Machine, str, str]]:
        """Ask for so many tasks; machine, container and address of each, when they wait to be healthy."""
        self.scale(count)
        wait_until(lambda: len(self.tasks("starting")) == count, "they wait")
        for task in self.tasks("starting"):
            address = task["NetworksAttachments"][0]["Addresses"][0].partition("/")[0]
            yield self.machines[task["NodeID"]], task["Status"]["ContainerStatus"]["ContainerID"], address


def one_round(room: Room, took: dict[str, list[float]]) -> None:
    """Three tasks become healthy, one is killed, one stopped, one machine lost."""
    serving: frozenset[str] = frozenset()
    places = list(room.started(3))
    for machine, container, address in places:
        now = time.time()
        made = machine.api.post(f"/containers/{container}/exec", {"Cmd": ["touch", "/tmp/well"]})
        machine.api.post(f"/exec/{made['Id']}/start", {"Detach": True})
        healthy = room.moments[machine].of(_is(container, "health_status: healthy"), now)
        serving |= {address}
        took["a task is healthy"].append(room.last(serving) - healthy)
    lost = room.cluster.workers[1]
    at = {machine: (container, address) for machine, container, address in places}
    container, address = at[room.cluster.workers[0]]
    pid = room.cluster.workers[0].api.get(f"/containers/{container}/json")["State"]["Pid"]
    now = time.time()
    os.kill(pid, signal.SIGKILL)
    serving -= {address}
    took["a task's process is killed"].append(room.last(serving) - now)
    container, address = at[lost]
    now = time.time()
    lost.network.cut()
    node = lost.swarm()["NodeID"]
    down = room.moments[room.cluster.manager].of(_is_down(node), now)
    serving -= {address}
    took["a node is marked down"].append(room.last(serving, but=lost) - down)
    lost.network.heal()
    wait_until(lambda: set(room.cluster.states().values()) == {"ready"}, "it is back")
    container, address = at[room.cluster.manager]
    now = time.time()
    room.scale(0)
    told = room.moments[room.cluster.manager].of(_is(container, "kill"), now)
    took["a task is told to stop"].append(room.last(frozenset()) - told)
    wait_until(lambda: not any(machine.task_containers() for machine in room.cluster.machines), "no task is left")


def _is(container: str, action: str) -> Callable[[dict[str, Any]], bool]:
    return lambda event: event["Actor"]["ID"] == container and event["Action"] == action


def _is_down(node: str) -> Callable[[dict[str, Any]], bool]:
    return lambda event: (
        event["Type"] == "node"
        and event["Actor"]["ID"] == node
        and event["Actor"]["Attributes"].get("state.new") == "down"
    )


@contextmanager
def room() -> Iterator[Room]:
    """Everything, which is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="enxl-", dir="/var/tmp") as directory:
        image = Path(directory) / "sample.tar"
        sample_image.build(image)
        with Cluster(Path(directory), image.read_bytes()) as cluster, ExitStack() as stack:
            cluster.heal()
            yield Room(cluster, stack)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="How soon networks follow what happens.")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    kinds = ("a task is healthy", "a task's process is killed", "a task is told to stop", "a node is marked down")
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    with room() as made:
        for _ in range(rounds):
            one_round(made, took)
    for kind, times in took.items():
        print(f"{kind:28} median {median(times) * 1e3:6.1f} ms, most {max(times) * 1e3:6.1f} ms, of {len(times)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
