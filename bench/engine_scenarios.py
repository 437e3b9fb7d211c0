"""Containers beside each other, lists, execs and logs: what tools ask of one machine's engine."""

import time
from concurrent.futures import ThreadPoolExecutor

from bench.lab import IMAGE, Lab, median, seconds
from enxame.testing.engine_client import EngineClient

Measurements = dict[str, float]
LINES = 1_000_000


def container_crowd(lab: Lab) -> Measurements:
    """`run --rm IMAGE true`; a hundred containers started eight at a time; lists of two hundred; execs."""
    socket = str(lab.daemon.socket)
    run = []
    for _ in range(10):
        with seconds() as taken:
            _run_and_forget(lab, socket)
        run += taken
    with seconds() as started, ThreadPoolExecutor(8) as pool:
        crowd = list(pool.map(lambda _: _start(socket), range(100)))
    listing, execs = [], []
    with ThreadPoolExecutor(8) as pool:
        crowd += pool.map(lambda _: _start(socket), range(100))
    try:
        for _ in range(20):
            with seconds() as taken:
                assert len(lab.api.get("/containers/json")) == len(crowd)
            listing += taken
        for _ in range(15):
            with seconds() as taken:
                _exec(lab, crowd[0])
            execs += taken
    finally:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda one: _remove(socket, one), crowd))
    return {
        "run_rm_ms": median(run) * 1000,
        "hundred_by_eight_s": started[0],
        "list_two_hundred_ms": median(listing) * 1000,
        "exec_ms": median(execs) * 1000,
    }


def _run_and_forget(lab: Lab, socket: str) -> None:
    """As the command does it: the wait is on before the start."""
    request = {"Image": IMAGE, "Entrypoint": [], "Cmd": ["/bin/true"], "HostConfig": {"AutoRemove": True}}
    container = lab.api.post("/containers/create", request)["Id"]
    client = EngineClient(socket)
    with client.stream("POST", f"/containers/{container}/wait?condition=removed") as answer:
        lab.api.post(f"/containers/{container}/start")
        answer.read()
    client.close()


def _start(socket: str) -> str:
    client = EngineClient(socket)
    try:
        container = str(client.post("/containers/create", {"Image": IMAGE})["Id"])
        client.post(f"/containers/{container}/start")
        return container
    finally:
        client.close()


def _remove(socket: str, container: str) -> None:
    client = EngineClient(socket)
    try:
        client.delete(f"/containers/{container}", force="1")
    finally:
        client.close()


def _exec(lab: Lab, container: str) -> None:
    made = lab.api.post(f"/containers/{container}/exec", {"Cmd": ["/bin/true"], "AttachStdout": True})["Id"]
    lab.api.post(f"/exec/{made}/start", {"Detach": False})


def log_reading(lab: Lab) -> Measurements:
    """A million lines of seventy characters, through the API."""
    script = f"yes {'x' * 69} | head -n {LINES}"
    request = {"Image": IMAGE, "Entrypoint": [], "Cmd": ["/bin/sh", "-c", script]}
    container = lab.api.post("/containers/create", request)["Id"]
    lab.api.post(f"/containers/{container}/start")
    lab.api.post(f"/containers/{container}/wait")
    size = 0
    began = time.perf_counter()
    with lab.api.stream("GET", f"/containers/{container}/logs?stdout=1&stderr=1") as answer:
        while piece := answer.read(1 << 18):
            size += len(piece)
    taken = time.perf_counter() - began
    lab.api.delete(f"/containers/{container}", force="1")
    assert size >= LINES * 70, size
    return {"million_lines_s": taken}
