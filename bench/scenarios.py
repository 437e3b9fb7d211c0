"""The scenarios, one function each: a lab in, measurements out (seconds, milliseconds, megabytes; the names tell)."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import footprint
from bench.engine_scenarios import container_crowd, log_reading
from bench.image_pull import image_pull
from bench.lab import IMAGE, Lab, median, percentile, seconds

Measurements = dict[str, float]


def idle_memory(lab: Lab) -> Measurements:
    """A swarm of one with an image and nothing else, a moment after its start."""
    time.sleep(3)
    pids = lab.daemon.daemon_pids()
    return {"idle_rss_mb": footprint.resident_megabytes(pids), "idle_pss_mb": footprint.proportional_megabytes(pids)}


def one_replica(lab: Lab) -> Measurements:
    """From the create call until the only replica runs; and from the remove call until its container is gone."""
    up, down = [], []
    for number in range(5):
        with seconds() as created:
            service = lab.create_service(f"one{number}", 1)
            lab.wait_running(service, 1)
        with seconds() as removed:
            lab.remove_service(service)
            lab.wait_gone()
        up += created
        down += removed
    return {"one_replica_s": median(up), "remove_one_s": median(down)}


def fifty_replicas(lab: Lab) -> Measurements:
    """Fifty up, fifty updated by tens, fifty gone; and what the daemon computed for that."""
    cpu = footprint.processor_seconds(lab.daemon.daemon_pids())
    with seconds() as created:
        service = lab.create_service("fifty", 50)
        lab.wait_running(service, 50)
    with seconds() as updated:
        lab.change_service(service, _new_environment)
        lab.wait_updated(service)
    lab.wait_running(service, 50)
    with seconds() as removed:
        lab.remove_service(service)
        lab.wait_gone()
    return {
        "fifty_replicas_s": created[0],
        "rolling_update_s": updated[0],
        "remove_fifty_s": removed[0],
        "fifty_cpu_s": footprint.processor_seconds(lab.daemon.daemon_pids()) - cpu,
    }


def _new_environment(spec: dict[str, Any]) -> None:
    spec["TaskTemplate"]["ContainerSpec"]["Env"] = [f"CHANGED={time.monotonic_ns()}"]


def hundred_replicas(lab: Lab) -> Measurements:
    """Fifty more beside fifty, and the memory with a hundred containers."""
    service = lab.create_service("hundred", 50)
    lab.wait_running(service, 50)
    with seconds() as scaled:
        lab.change_service(service, lambda spec: spec.update(Mode={"Replicated": {"Replicas": 100}}))
        lab.wait_running(service, 100)
    daemon, monitors = lab.daemon.daemon_pids(), lab.daemon.monitor_pids()
    measured = {
        "fifty_to_hundred_s": scaled[0],
        "hundred_rss_mb": footprint.resident_megabytes(daemon),
        "monitor_rss_mb": footprint.resident_megabytes(monitors) / 100,
        "monitor_pss_mb": footprint.proportional_megabytes(monitors) / 100,
    }
    lab.remove_service(service)
    lab.wait_gone()
    return measured


def calls(lab: Lab) -> Measurements:
    """How long single calls take: services without replicas, so that nothing else is at work."""
    create: list[float] = []
    services = []
    for number in range(60):
        with seconds() as taken:
            services.append(lab.create_service(f"call{number}", 0))
        create += taken
    inspect = _each_milliseconds(lambda: lab.api.get(f"/services/{services[0]}"), 300)
    listing = _each_milliseconds(lambda: lab.api.get("/services"), 60)
    command = _each_milliseconds(_command_line(lab), 15)
    for service in services:
        lab.remove_service(service)
    create = [taken * 1000 for taken in create]
    return {
        "create_p50_ms": median(create),
        "create_p99_ms": percentile(create, 99),
        "inspect_p50_ms": median(inspect),
        "inspect_p99_ms": percentile(inspect, 99),
        "list_sixty_p50_ms": median(listing),
        "command_service_ls_ms": median(command),
    }


def _each_milliseconds(call: Callable[[], object], times: int) -> list[float]:
    taken: list[float] = []
    for _ in range(times):
        with seconds() as one:
            call()
        taken += one
    return [value * 1000 for value in taken]


def _command_line(lab: Lab) -> Callable[[], object]:
    """`service ls` as its user runs it: docker beside dockerd, enxame beside enxamed."""
    own = str(Path(sys.executable).with_name("enxame")) if lab.daemon.name == "enxamed" else shutil.which("docker")
    environment = {**os.environ, "DOCKER_HOST": lab.daemon.url, "ENXAME_HOST": lab.daemon.url}
    return lambda: subprocess.run(
        [str(own), "service", "ls"], env=environment, check=True, capture_output=True, timeout=30
    )


def container_run(lab: Lab) -> Measurements:
    """What `container run -d` and `container rm -f` ask for, one after the other."""
    run, remove = [], []
    for _ in range(10):
        with seconds() as started:
            container = lab.api.post("/containers/create", {"Image": IMAGE})["Id"]
            lab.api.post(f"/containers/{container}/start")
        with seconds() as removed:
            lab.api.delete(f"/containers/{container}", force="1")
        run += started
        remove += removed
    return {"container_run_ms": median(run) * 1000, "container_remove_ms": median(remove) * 1000}


SCENARIOS: dict[str, Callable[[Lab], Measurements]] = {
    "idle": idle_memory,
    "one": one_replica,
    "fifty": fifty_replicas,
    "hundred": hundred_replicas,
    "calls": calls,
    "container": container_run,
    "crowd": container_crowd,
    "logs": log_reading,
    "pull": image_pull,
}
