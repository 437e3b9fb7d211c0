"""What every scenario works on: a daemon with a swarm of one and the sample image, and the ways to wait for it."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from enxame.testing import sample_image
from enxame.testing.daemons import DAEMONS, Daemon, wait_until
from enxame.testing.engine_client import EngineClient
from enxame.testing.namespace import HostAndOutside

IMAGE = sample_image.DEFAULT_TAG
SECOND = 1_000_000_000  # nanoseconds, the API's unit
POLL = 0.01
DEADLINE = 180.0


class Lab:
    """One daemon under measurement."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    @property
    def api(self) -> EngineClient:
        return self.daemon.api

    def create_service(self, name: str, replicas: int) -> str:
        """A service of the sample image; a rolling update of it goes by tens and watches each for 0.1 s."""
        created = self.api.post("/services/create", service_spec(name, replicas))
        return str(created["ID"])

    def change_service(self, service: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Read the service, change its spec, write it back under the version that was read."""
        current = self.api.get(f"/services/{service}")
        change(current["Spec"])
        self.api.post(f"/services/{service}/update", current["Spec"], version=str(current["Version"]["Index"]))

    def wait_running(self, service: str, replicas: int) -> None:
        """Until so many tasks of the service run: the daemon counts, so that asking is cheap."""

        def running() -> bool:
            found = self.api.get("/services", status="true", filters={"id": [service]})
            return bool(found) and found[0]["ServiceStatus"]["RunningTasks"] == replicas

        wait_until(running, f"{replicas} replicas run", timeout=DEADLINE, interval=POLL)

    def wait_updated(self, service: str) -> None:
        """Until the rolling update is complete."""

        def completed() -> bool:
            return bool(self.api.get(f"/services/{service}").get("UpdateStatus", {}).get("State") == "completed")

        wait_until(completed, "the update is complete", timeout=DEADLINE, interval=POLL)

    def wait_gone(self) -> None:
        """Until no container is left, running or not; asking for one at most is cheap."""
        wait_until(
            lambda: not self.api.get("/containers/json", all="1", limit="1"),
            "no container is left",
            timeout=DEADLINE,
            interval=POLL,
        )

    def remove_service(self, service: str) -> None:
        self.api.delete(f"/services/{service}")


def service_spec(name: str, replicas: int) -> dict[str, Any]:
    """The spec that all scenarios use."""
    return {
        "Name": name,
        "TaskTemplate": {"ContainerSpec": {"Image": IMAGE, "StopGracePeriod": 10 * SECOND}},
        "Mode": {"Replicated": {"Replicas": replicas}},
        "UpdateConfig": {"Parallelism": 10, "Monitor": SECOND // 10, "Order": "stop-first", "FailureAction": "pause"},
    }


@contextmanager
def seconds() -> Iterator[list[float]]:
    """Time a block: the list holds its duration when it has ended."""
    taken: list[float] = []
    began = time.perf_counter()
    yield taken
    taken.append(time.perf_counter() - began)


def percentile(values: list[float], percent: float) -> float:
    """The value below which *percent* of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


median = statistics.median


@contextmanager
def laboratory(which: str) -> Iterator[Lab]:
    """A fresh daemon in its own namespace with the image loaded; everything is removed afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="enxb-", dir="/var/tmp", ignore_cleanup_errors=True) as directory,
        HostAndOutside("bench") as network,
        DAEMONS[which](Path(directory) / "d", network) as daemon,
    ):
        archive = Path(directory) / "sample.tar"
        sample_image.build(archive)
        daemon.api.post("/images/load", archive.read_bytes())
        daemon.api.post("/swarm/init", {"ListenAddr": "0.0.0.0:2377"})
        yield Lab(daemon)
