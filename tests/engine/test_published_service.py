"""A published port of a service, under a stream of requests while the service changes."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from enxame.testing.daemons import Daemon, wait_until
from enxame.testing.sample_image import DEFAULT_TAG as IMAGE

PORT = 8310

# Runs only once it listens, and serves on for a moment when it is told to stop: what then is lost, the mesh has lost.
SERVE = 'hostname > /www/index.html; trap "sleep 0.3; exit 0" TERM; httpd -f -p 80 -h /www & wait'
CONTAINER = {
    "Image": IMAGE,
    "Command": ["sh", "-c", SERVE],
    "Healthcheck": {
        "Test": ["CMD", "wget", "-qO", "/dev/null", "http://127.0.0.1/"],
        "Interval": 100_000_000,
        "Timeout": 5_000_000_000,
        "Retries": 20,
    },
}


@pytest.fixture(autouse=True)
def only_with_a_routing_mesh(daemon_class: type[Daemon]) -> None:
    if daemon_class.name == "dockerd":
        pytest.skip("dockerd's routing mesh needs IPVS, which this kernel may not have")


#: A task takes part in the mesh from the first good answer on: a process that runs need not listen yet.
HEALTH = {"Test": ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"], "Interval": 200_000_000}


def create(swarm: Daemon, replicas: int) -> str:
    spec = {
        "Name": "mesh",
        "TaskTemplate": {
            "ContainerSpec": {"Image": IMAGE, "Healthcheck": HEALTH},
            "RestartPolicy": {"Condition": "any", "Delay": 100_000_000},
        },
        "Mode": {"Replicated": {"Replicas": replicas}},
        "UpdateConfig": {"Parallelism": 1, "Monitor": 200_000_000, "Order": "start-first"},
        "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": PORT}]},
    }
    service = str(swarm.api.post("/services/create", spec)["ID"])
    wait_until(lambda: len(answers(swarm, replicas * 4)) == replicas, "all replicas answer")
    return service


def change(swarm: Daemon, service: str, **fields: object) -> None:
    current = swarm.api.get(f"/services/{service}")
    swarm.api.post(
        f"/services/{service}/update", {**current["Spec"], **fields}, version=str(current["Version"]["Index"])
    )


def names(swarm: Daemon) -> set[str]:
    """The host names of the running containers."""
    return {container["Id"][:12] for container in swarm.api.get("/containers/json")}


def answers(swarm: Daemon, times: int) -> Counter[str]:
    network = swarm.network
    seen: Counter[str] = Counter()
    for _ in range(times):
        try:
            seen[network.outside.http_get(network.host_address, PORT, timeout=2).strip()] += 1
        except OSError:
            seen["failed"] += 1
    return seen


class Stream:
    """Requests from outside, one after the other, each on a new connection."""

    def __init__(self, swarm: Daemon) -> None:
        self._swarm = swarm
        self._stop = threading.Event()
        self.answered: Counter[str] = Counter()
        self.failures: list[str] = []
        self.cut = 0

    def work(self) -> None:
        network = self._swarm.network
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self.answered[network.outside.http_get(network.host_address, PORT, timeout=5).strip()] += 1
            except ConnectionResetError:
                # A server that does not drain cuts what it was answering when it is told to stop: its own doing.
                # The mesh's promise is that no connection is sent to one that has stopped.
                self.cut += 1
            except OSError as error:
                self.failures.append(f"{error!r} after {time.monotonic() - began:.3f} s")

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def stream_of_requests(swarm: Daemon) -> Iterator[Stream]:
    stream = Stream(swarm)
    thread = threading.Thread(target=stream.work)
    thread.start()
    try:
        yield stream
    finally:
        stream.stop()
        thread.join(10)


def test_requests_are_spread_over_all_tasks(swarm: Daemon) -> None:
    create(swarm, 4)
    seen = answers(swarm, 100)
    assert set(seen) == names(swarm)
    assert min(seen.values()) >= 10


def test_scaling_down_loses_no_connection(swarm: Daemon) -> None:
    service = create(swarm, 6)
    with stream_of_requests(swarm) as stream:
        wait_until(lambda: sum(stream.answered.values()) > 50, "requests flow")
        change(swarm, service, Mode={"Replicated": {"Replicas": 1}})
        wait_until(lambda: len(names(swarm)) == 1, "one replica is left")
        flowing = sum(stream.answered.values())
        wait_until(lambda: sum(stream.answered.values()) > flowing + 50, "requests flow on")
    assert stream.failures == []


def test_a_rolling_update_that_starts_first_loses_no_connection(swarm: Daemon) -> None:
    service = create(swarm, 3)
    before = names(swarm)
    with stream_of_requests(swarm) as stream:
        wait_until(lambda: sum(stream.answered.values()) > 50, "requests flow")
        current = swarm.api.get(f"/services/{service}")["Spec"]["TaskTemplate"]
        current["ContainerSpec"]["Env"] = ["NEW=1"]
        change(swarm, service, TaskTemplate=current)

        def completed() -> bool:
            return bool(swarm.api.get(f"/services/{service}").get("UpdateStatus", {}).get("State") == "completed")

        wait_until(completed, "the update is complete")
        wait_until(lambda: len(names(swarm)) == 3 and not names(swarm) & before, "the old tasks are gone")
    assert stream.failures == []
    assert set(answers(swarm, 30)) == names(swarm)


def test_a_killed_container_is_left_out_at_once(swarm: Daemon) -> None:
    create(swarm, 3)
    victim = sorted(names(swarm))[0]
    swarm.api.post(f"/containers/{victim}/kill")
    wait_until(lambda: victim not in names(swarm), "it is gone")
    wait_until(lambda: "failed" not in answers(swarm, 10), "the rest answer", timeout=5)
    wait_until(lambda: len(answers(swarm, 12)) == 3, "three answer again")


def test_removing_the_service_closes_the_port(swarm: Daemon) -> None:
    service = create(swarm, 2)
    swarm.api.delete(f"/services/{service}")

    def closed() -> bool:
        try:
            swarm.network.outside.connect(swarm.network.host_address, PORT, timeout=1).close()
        except OSError:
            return True
        return False

    wait_until(closed, "the port is closed", timeout=10)
