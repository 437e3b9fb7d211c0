"""Whether rolling updates lose requests: ``python -m bench.rolling_updates [--requests N] [--keep-alive]`` (as root).

Three machines, a service of three tasks with a published port whose server drains when it is told to stop, and a client
on a fourth machine that asks all three in turn. While it asks the service is updated again and again, by one task at a
time, the old one stopped first. Prints how many requests were made and which failed.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import Any, Final

from enxame.testing import sample_image
from enxame.testing.cluster import Cluster
from enxame.testing.daemons import wait_until
from enxame.testing.namespace import LanHost

_PORT: Final = 8080
_HERE: Final = pathlib.Path(__file__).parent
_SECOND: Final = 1_000_000_000


def service(turn: int) -> dict[str, Any]:
    """The service, different in every turn."""
    probe = ["CMD", "wget", "-qO", "/dev/null", "http://127.0.0.1/"]
    container = {
        "Image": sample_image.DEFAULT_TAG,
        # The sample image has no Python; the machine's own is seen through a mount.
        "Command": ["chroot", "/host", sys.executable, str(_HERE / "draining_server.py"), "80"],
        "Mounts": [{"Type": "bind", "Source": "/", "Target": "/host", "BindOptions": {"NonRecursive": True}}],
        "Env": [f"TURN={turn}"],
        "StopGracePeriod": 10 * _SECOND,
        "Healthcheck": {"Test": probe, "Interval": _SECOND // 5, "Timeout": 5 * _SECOND, "Retries": 25},
    }
    return {
        "Name": "web",
        "TaskTemplate": {"ContainerSpec": container},
        "Mode": {"Replicated": {"Replicas": 3}},
        "UpdateConfig": {"Parallelism": 1, "Monitor": _SECOND // 5, "Order": "stop-first"},
        "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": _PORT}]},
    }


def updated(cluster: Cluster, turn: int) -> bool:
    """Whether the turn's update is complete."""
    return (
        len([task for task in cluster.running("web") if f"TURN={turn}" in task["Spec"]["ContainerSpec"]["Env"]]) == 3
        and cluster.manager.api.get("/services/web").get("UpdateStatus", {}).get("State") != "updating"
    )


def measure(cluster: Cluster, requests: int, *, keep_alive: bool, at_once: int) -> dict[str, Any]:
    """What became of the requests, and how many updates there were meanwhile."""
    client = cluster.lan.attach()
    cluster.manager.api.post("/services/create", service(0))
    wait_until(lambda: len(cluster.running("web")) == 3, "three tasks run", timeout=60)
    places = [f"{machine.network.host_address}:{_PORT}" for machine in cluster.machines]
    for place in places:
        wait_until(partial(_answers, client, place.partition(":")[0]), "the port answers")
    command = [sys.executable, str(_HERE / "request_load.py"), str(requests), str(at_once)]
    program = subprocess.Popen(
        client.host.argv(*command, "keep-alive" if keep_alive else "close", *places), stdout=subprocess.PIPE, text=True
    )
    began, turn = time.monotonic(), 0
    try:
        while program.poll() is None:
            turn += 1
            current = cluster.manager.api.get("/services/web")
            spec, version = service(turn), str(current["Version"]["Index"])
            cluster.manager.api.post("/services/web/update", spec, version=version)
            wait_until(partial(_updated_or_ended, cluster, turn, program), "an update", timeout=120)
        output, _ = program.communicate(timeout=30)
    finally:
        program.kill()
    return {**json.loads(output), "seconds": round(time.monotonic() - began, 1), "updates": turn}


def _updated_or_ended(cluster: Cluster, turn: int, program: subprocess.Popen[str]) -> bool:
    return updated(cluster, turn) or program.poll() is not None


def _answers(client: LanHost, host: str) -> bool:
    try:
        return bool(client.host.http_get(host, _PORT, timeout=1))
    except OSError:
        return False


def main() -> int:
    """Print it; the exit code tells whether any request failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--keep-alive", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="enxr-", dir="/var/tmp") as directory:
        image = pathlib.Path(directory) / "sample.tar"
        sample_image.build(image)
        with Cluster(pathlib.Path(directory), image.read_bytes()) as cluster:
            cluster.heal()
            found = measure(cluster, arguments.requests, keep_alive=arguments.keep_alive, at_once=arguments.at_once)
    print(json.dumps(found, indent=2))
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
