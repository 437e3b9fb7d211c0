"""What goes wrong around a daemon, and what it says: each fault has a clear answer, and the daemon goes on."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from enxame.testing.daemons import Daemon, Enxamed, wait_until
from enxame.testing.engine_client import ApiError
from enxame.testing.namespace import unmount_below
from enxame.testing.sample_image import DEFAULT_TAG as IMAGE


@pytest.fixture(autouse=True)
def goes_on(daemon: Daemon) -> Iterator[None]:
    """Whatever a test does, the module's daemon still answers afterwards."""
    yield
    assert daemon.api.exchange("GET", "/_ping") == (200, b"OK")
    assert "Traceback" not in daemon.log_tail(1000)


def error_of(daemon: Daemon, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
    status, answer = daemon.api.exchange(method, f"/v1.41{path}", body, {"Content-Type": "application/json"})
    return status, json.loads(answer)["message"]


BODIES = ["/containers/create", "/services/create", "/networks/create", "/volumes/create", "/swarm/init"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("body", [b"{", b'{"Name": ', b"[1, 2]", b'"text"', b"\xff\xfe{}", b"[" * 100_000, b"nonsense"])
def test_what_is_no_json_object_is_a_bad_request(swarm: Daemon, path: str, body: bytes) -> None:
    status, message = error_of(swarm, "POST", path, body)
    assert status == 400
    assert message


WRONG = [
    ("/containers/create", {"Image": 7}),
    ("/containers/create", {"Image": IMAGE, "Cmd": {"a": 1}}),
    ("/containers/create", {"Image": IMAGE, "HostConfig": {"Memory": "much"}}),
    ("/containers/create", {"Image": IMAGE, "HostConfig": {"PortBindings": [1]}}),
    ("/containers/create", {"Image": IMAGE, "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "http"}]}}}),
    ("/containers/create", {"Image": IMAGE, "Env": "A=1"}),
    ("/services/create", {"Name": "x", "TaskTemplate": 5}),
    (
        "/services/create",
        {"Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}}, "Mode": {"Replicated": {"Replicas": -1}}},
    ),
    (
        "/services/create",
        {
            "Name": "x",
            "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}},
            "EndpointSpec": {"Ports": [{"TargetPort": 99_999}]},
        },
    ),
    ("/services/create", {"Name": "x", "TaskTemplate": {"ContainerSpec": {}}}),
    ("/volumes/create", {"Name": ["x"]}),
    ("/networks/create", {"Name": {}}),
]


@pytest.mark.parametrize(("path", "body"), WRONG, ids=[f"{path} {json.dumps(body)[:70]}" for path, body in WRONG])
def test_values_of_a_wrong_type_are_bad_requests(swarm: Daemon, path: str, body: object) -> None:
    status, message = error_of(swarm, "POST", path, json.dumps(body).encode())
    assert status == 400
    assert message


UNKNOWN = [
    ("GET", "/containers/nothing/json", "No such container: nothing"),
    ("POST", "/containers/nothing/start", "No such container: nothing"),
    ("POST", "/containers/nothing/exec", "No such container: nothing"),
    ("DELETE", "/containers/nothing", "No such container: nothing"),
    ("GET", "/exec/nothing/json", "No such exec instance: nothing"),
    ("GET", "/images/nothing/json", "No such image: nothing"),
    ("GET", "/volumes/nothing", "get nothing: no such volume"),
    ("GET", "/networks/nothing", "network nothing not found"),
    ("GET", "/services/nothing", "service nothing not found"),
    ("GET", "/tasks/nothing", "task nothing not found"),
    ("GET", "/nodes/nothing", "node nothing not found"),
    ("GET", "/no/such/page", "page not found"),
]


@pytest.mark.parametrize(
    ("method", "path", "message"), UNKNOWN, ids=[f"{method} {path}" for method, path, _ in UNKNOWN]
)
def test_unknown_objects_are_not_found_in_dockers_words(swarm: Daemon, method: str, path: str, message: str) -> None:
    status, said = error_of(swarm, method, path, b"{}" if method == "POST" else None)
    assert status == 404
    assert message.lower() in said.lower()


def test_a_prefix_of_several_ids_is_ambiguous(swarm: Daemon) -> None:
    def create(number: int) -> str:
        body = {
            "Name": f"many{number}",
            "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}},
            "Mode": {"Replicated": {"Replicas": 0}},
        }
        return str(swarm.api.post("/services/create", body)["ID"])

    seen: dict[str, str] = {}
    for number in range(37):  # one more than there are first letters
        identity = create(number)
        if identity[0] in seen:
            break
        seen[identity[0]] = identity
    status, message = error_of(swarm, "GET", f"/services/{identity[0]}")
    assert (status, message) == (400, f"service {identity[0]} is ambiguous (2 matches found)")


def test_a_prefix_of_several_containers_is_ambiguous(swarm: Daemon) -> None:
    seen: dict[str, str] = {}
    for _ in range(17):
        identity = swarm.api.post("/containers/create", {"Image": IMAGE})["Id"]
        if identity[0] in seen:
            break
        seen[identity[0]] = identity
    status, message = error_of(swarm, "GET", f"/containers/{identity[0]}/json")
    assert status in (400, 404)
    assert identity[0] in message


def test_a_huge_body_is_refused_without_being_kept(swarm: Daemon) -> None:
    before = resident_megabytes(swarm.pid)
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    connection.sock.connect(str(swarm.socket))
    status = 0
    try:
        connection.putrequest("POST", "/v1.41/containers/create")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(1 << 30))
        connection.endheaders()
        try:
            for _ in range(1024):
                connection.send(b" " * (1 << 20))
        except OSError:  # refused before all was sent
            pass
        try:
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            status = 413
    finally:
        connection.close()
    assert status in (400, 413)
    assert resident_megabytes(swarm.pid) < before + 100


def resident_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


@pytest.mark.parametrize("name", ["-x", "a b", "a/b", "x", "é"])
def test_container_names_out_of_rule_are_refused(swarm: Daemon, name: str) -> None:
    from urllib.parse import quote

    status, answer = swarm.api.exchange(
        "POST",
        f"/v1.41/containers/create?name={quote(name)}",
        json.dumps({"Image": IMAGE}).encode(),
        {"Content-Type": "application/json"},
    )
    assert status == 400
    assert b"Invalid container name" in answer


def test_a_missing_image_is_named(swarm: Daemon) -> None:
    status, message = error_of(swarm, "POST", "/containers/create", b'{"Image": "no/such:tag"}')
    assert (status, message) == (404, "No such image: no/such:tag")


def test_a_service_of_a_missing_image_says_so_and_is_tried_again(swarm: Daemon) -> None:
    body = {
        "Name": "lost",
        "TaskTemplate": {
            "ContainerSpec": {"Image": "localhost:1/no/such:tag"},
            "RestartPolicy": {"Delay": 100_000_000},
        },
    }
    swarm.api.post("/services/create", body)

    def rejected() -> list[str]:
        tasks = swarm.api.get("/tasks", filters={"service": ["lost"]})
        return [task["Status"].get("Err", "") for task in tasks if task["Status"]["State"] == "rejected"]

    errors = wait_until(lambda: len(rejected()) > 1 and rejected(), "two tries were rejected", timeout=60)
    assert "No such image: localhost:1/no/such:tag" in errors[0]


def test_a_port_that_another_program_holds_fails_the_task_with_the_cause(swarm: Daemon) -> None:
    with swarm.network.host.open_socket() as taken:
        taken.bind(("0.0.0.0", 8401))
        taken.listen()
        container = swarm.api.post(
            "/containers/create", {"Image": IMAGE, "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8401"}]}}}
        )["Id"]
        with pytest.raises(ApiError, match="address already in use"):
            swarm.api.post(f"/containers/{container}/start")
    swarm.api.post(f"/containers/{container}/start")  # free now
    wait_until(lambda: answers(swarm, 8401), "the port answers")


def answers(daemon: Daemon, port: int) -> bool:
    try:
        return bool(daemon.network.outside.http_get(daemon.network.host_address, port, timeout=2))
    except OSError:
        return False


def test_a_killed_monitor_does_not_take_the_daemon_along(swarm: Daemon) -> None:
    container = swarm.api.post("/containers/create", {"Image": IMAGE})["Id"]
    swarm.api.post(f"/containers/{container}/start")
    (monitor,) = [pid for pid in swarm.monitor_pids() if container in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(monitor, signal.SIGKILL)
    process = swarm.api.get(f"/containers/{container}/json")["State"]["Pid"]
    if process:
        os.kill(process, signal.SIGKILL)
    wait_until(
        lambda: swarm.api.get(f"/containers/{container}/json")["State"]["Status"] == "exited", "its end is noticed"
    )
    swarm.api.post(f"/containers/{container}/start")
    wait_until(lambda: swarm.api.get(f"/containers/{container}/json")["State"]["Running"], "it runs again")
    swarm.api.delete(f"/containers/{container}", force="1")


def test_a_service_whose_monitor_is_killed_has_its_task_replaced(swarm: Daemon) -> None:
    body = {
        "Name": "watched",
        "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}, "RestartPolicy": {"Delay": 100_000_000}},
    }
    swarm.api.post("/services/create", body)
    (first,) = wait_until(lambda: running_containers(swarm, "watched"), "the task runs")
    (monitor,) = [pid for pid in swarm.monitor_pids() if first in Path(f"/proc/{pid}/cmdline").read_text()]
    process = swarm.api.get(f"/containers/{first}/json")["State"]["Pid"]
    os.kill(monitor, signal.SIGKILL)
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: set(running_containers(swarm, "watched")) - {first}, "another runs", timeout=30)


def running_containers(daemon: Daemon, service: str) -> list[str]:
    label = f"com.docker.swarm.service.name={service}"
    return [each["Id"] for each in daemon.api.get("/containers/json", filters={"label": [label]})]


def test_a_daemon_that_is_killed_finds_its_containers_again(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon()
    daemon.api.post("/swarm/init", {"ListenAddr": "0.0.0.0:2377"})
    body = {
        "Name": "lives",
        "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}},
        "Mode": {"Replicated": {"Replicas": 3}},
        "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8402}]},
    }
    daemon.api.post("/services/create", body)
    alone = daemon.api.post("/containers/create", {"Image": IMAGE})["Id"]
    daemon.api.post(f"/containers/{alone}/start")
    wait_until(lambda: len(running_containers(daemon, "lives")) == 3, "three tasks run")
    wait_until(lambda: answers(daemon, 8402), "the port answers")

    def tasks() -> dict[str, tuple[str, int]]:
        listed = daemon.api.get("/tasks", filters={"service": ["lives"]})
        return {
            task["ID"]: (task["Status"]["State"], task["Status"].get("ContainerStatus", {}).get("PID", 0))
            for task in listed
        }

    def processes() -> dict[str, int]:
        ids = [each["Id"] for each in daemon.api.get("/containers/json")]
        return {each: daemon.api.get(f"/containers/{each}/json")["State"]["Pid"] for each in ids}

    wait_until(lambda: all(state == "running" for state, _ in tasks().values()), "all is told")
    tasks_before, processes_before = tasks(), processes()
    for _ in range(3):
        daemon.kill()
        assert answers(daemon, 8402)  # the containers and the rules need no daemon
        daemon.start()
        wait_until(lambda: tasks() == tasks_before, "the same tasks with the same processes", timeout=20)
        assert processes() == processes_before
    daemon.api.post(f"/containers/{alone}/stop")
    assert daemon.api.post(f"/containers/{alone}/wait")["StatusCode"] == 0
    victim = running_containers(daemon, "lives")[0]
    daemon.api.post(f"/containers/{victim}/kill")
    wait_until(lambda: len(set(running_containers(daemon, "lives")) - {victim}) == 3, "it is replaced", timeout=30)


def test_what_ended_while_the_daemon_was_dead_is_replaced_when_it_is_back(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon()
    daemon.api.post("/swarm/init", {"ListenAddr": "0.0.0.0:2377"})
    body = {"Name": "gap", "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}, "RestartPolicy": {"Delay": 100_000_000}}}
    daemon.api.post("/services/create", body)
    (first,) = wait_until(lambda: running_containers(daemon, "gap"), "the task runs")
    process = daemon.api.get(f"/containers/{first}/json")["State"]["Pid"]
    daemon.kill()
    os.kill(process, signal.SIGKILL)
    daemon.start()
    wait_until(lambda: set(running_containers(daemon, "gap")) - {first}, "another runs", timeout=30)


def test_acknowledged_services_survive_a_kill(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon()
    daemon.api.post("/swarm/init", {"ListenAddr": "0.0.0.0:2377"})
    body = {"TaskTemplate": {"ContainerSpec": {"Image": IMAGE}}, "Mode": {"Replicated": {"Replicas": 0}}}
    created = {daemon.api.post("/services/create", {**body, "Name": f"kept{number}"})["ID"] for number in range(50)}
    daemon.kill()
    daemon.start()
    assert {service["ID"] for service in daemon.api.get("/services")} == created


def only_enxamed(daemon: Daemon) -> Enxamed:
    if not isinstance(daemon, Enxamed):
        pytest.skip("looks into enxamed's own directories")
    return daemon


def test_a_truncated_database_is_named_and_not_overwritten(start_daemon: Callable[..., Daemon]) -> None:
    daemon = only_enxamed(start_daemon())
    daemon.api.post("/swarm/init", {"ListenAddr": "0.0.0.0:2377"})
    daemon.stop()
    database = daemon.data_root / "swarm" / "state.db"
    damaged = database.read_bytes()[:700]
    database.write_bytes(damaged)
    for beside in database.parent.glob("state.db-*"):
        beside.unlink()
    daemon.start()
    swarm = daemon.api.get("/info")["Swarm"]
    assert swarm["LocalNodeState"] == "error"
    assert "state.db" in swarm["Error"]
    container = daemon.api.post("/containers/create", {"Image": IMAGE})["Id"]  # the machine itself goes on
    daemon.api.post(f"/containers/{container}/start")
    assert database.read_bytes()[:700] == damaged


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = Path("/var/tmp") / f"enxs-{os.getpid()}"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "enxame-test", mount], check=True)
    yield mount
    unmount_below(mount)
    subprocess.run(["umount", "--lazy", mount], check=True)
    mount.rmdir()


def refusal(daemon: Daemon, path: str, spec: dict[str, Any]) -> tuple[int, str] | None:
    """What the daemon says when it refuses; None when there still was room."""
    if "Name" in spec:
        spec = {**spec, "Name": f"{spec['Name']}-{time.monotonic_ns()}"}
    status, answer = daemon.api.exchange(
        "POST", f"/v1.41{path}", json.dumps(spec).encode(), {"Content-Type": "application/json"}
    )
    return (status, json.loads(answer)["message"]) if status >= 400 else None


def test_a_full_disk_is_told_and_got_over(start_daemon: Callable[..., Daemon], small_disk: Path) -> None:
    daemon = start_daemon(directory=small_disk)
    daemon.api.post("/swarm/init", {"ListenAddr": "0.0.0.0:2377"})
    body = {"TaskTemplate": {"ContainerSpec": {"Image": IMAGE}}, "Mode": {"Replicated": {"Replicas": 0}}}
    kept = daemon.api.post("/services/create", {**body, "Name": "kept"})["ID"]
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 65536) == 65536:
                pass
        except OSError:
            pass
    large = {"Labels": {"fill": "x" * 20_000}}
    for path, spec in (
        ("/services/create", {**body, "Name": "late", **large}),
        ("/containers/create", {"Image": IMAGE, **large}),
    ):
        status, message = wait_until(
            lambda path=path, spec=spec: refusal(daemon, path, spec), "the disk is full", interval=0
        )
        assert status in (500, 503)
        assert re.search("disk is full|no space left on device", message, re.IGNORECASE)
    assert daemon.api.get(f"/services/{kept}")["Spec"]["Name"] == "kept"
    filler.unlink()
    daemon.api.post("/services/create", {**body, "Name": "after"})
    listed = {service["Spec"]["Name"] for service in daemon.api.get("/services")}
    assert {"kept", "after"} <= listed
    daemon.kill()
    daemon.start()
    assert {service["Spec"]["Name"] for service in daemon.api.get("/services")} == listed


def test_a_disk_of_its_own_below_the_data_root_is_used_and_stays(
    start_daemon: Callable[..., Daemon], small_disk: Path
) -> None:
    volumes = small_disk / "d" / "data" / "volumes"
    volumes.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "enxame-test", volumes], check=True)
    (volumes / "marker").touch()
    disk = volumes.stat().st_dev
    daemon = start_daemon(directory=small_disk)
    place = Path(daemon.api.post("/volumes/create", {"Name": "data"})["Mountpoint"])
    assert place.stat().st_dev == disk
    daemon.stop()
    assert (volumes / "marker").exists()
    assert place.is_dir()


def test_a_runtime_that_fails_is_told_with_its_own_words(swarm: Daemon) -> None:
    body = {"Image": IMAGE, "Cmd": ["true"], "WorkingDir": "/proc/1/nowhere"}
    container = swarm.api.post("/containers/create", body)["Id"]
    with pytest.raises(ApiError) as failed:
        swarm.api.post(f"/containers/{container}/start")
    assert failed.value.status in (400, 500)
    assert len(failed.value.message) > 10
    state = swarm.api.get(f"/containers/{container}/json")["State"]
    assert state["Status"] in ("created", "exited")
    assert state["Error"]
