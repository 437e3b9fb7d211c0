"""A whole daemon, fuzzed from the API's description: it fails at nothing, hangs at nothing, loses nothing."""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from enxame.api.routing import Operation
from enxame.testing.daemons import Daemon, wait_until
from enxame.testing.engine_client import ApiError
from tests.clients.command import IMAGE
from tests.conftest import remove_containers
from tests.fuzzing import OPERATIONS, Fuzzer, title

pytestmark = pytest.mark.skipif("config.getoption('--daemon') != 'enxamed'", reason="the description is enxamed's")

#: Requests of each kind and operation; more of them find more.
EXAMPLES = int(os.environ.get("ENXAME_FUZZ_EXAMPLES", "12"))

#: These ask registries, or other managers.
ASK_OTHERS = frozenset(
    {"POST /auth", "POST /images/create", "GET /distribution/{name}/json", "POST /swarm/join", "POST /swarm/init",
     "POST /images/{name}/push", "GET /images/search", "POST /build"}
)  # fmt: skip

_numbers = itertools.count()


@pytest.fixture(scope="module")
def measured(start_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    """A daemon that holds as many descriptors and tasks after all requests as before."""
    daemon = start_daemon()
    daemon.api.get("/openapi.json")
    before = daemon.api.get("/info")
    yield daemon
    if daemon.api.get("/info")["Swarm"]["LocalNodeState"] == "active":
        for service in daemon.api.get("/services"):
            daemon.api.delete(f"/services/{service['ID']}")
        daemon.api.post("/swarm/leave", force="1")
    remove_containers(daemon)
    for what in ("NGoroutines", "NFd"):
        wait_until(lambda what=what: daemon.api.get("/info")[what] <= before[what] + 8, f"{what} as before", timeout=30)


@pytest.fixture
def names(measured: Daemon) -> dict[str, list[str]]:
    """One of each object, made anew when the last operation removed it."""
    api = measured.api
    if api.get("/info")["Swarm"]["LocalNodeState"] != "active":
        api.post("/swarm/init", {"ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "127.0.0.1"})
    for path, body in {
        "/networks/create": {"Name": "known"},
        "/volumes/create": {"Name": "known"},
        "/configs/create": {"Name": "known", "Data": "YQ=="},
        "/secrets/create": {"Name": "known", "Data": "YQ=="},
        "/services/create": {"Name": "known", "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}}},
    }.items():
        _made(api.post, path, body)
    for container in api.get("/containers/json", all="1"):
        is_task = "com.docker.swarm.task.id" in container["Labels"]
        if not is_task and (container["Names"] != ["/known"] or container["State"] != "running"):
            api.delete(f"/containers/{container['Id']}", force="1")
    _made(lambda: api.post("/containers/create", {"Image": IMAGE, "StopTimeout": 1}, name="known"))
    _made(lambda: api.post("/containers/known/start"))
    exec_id = api.post("/containers/known/exec", {"Cmd": ["cat"], "AttachStdin": True, "AttachStdout": True})["Id"]
    node = api.get("/nodes")[0]["ID"]
    known = ("containers", "networks", "volumes", "configs", "secrets", "services")
    return {collection: ["known"] for collection in known} | {
        "images": [IMAGE],
        "distribution": ["127.0.0.1:1/none"],
        "exec": [exec_id],
        "nodes": [node],
        "tasks": [task["ID"] for task in api.get("/tasks")][:1] or ["none"],
    }


def _made(call: Callable[..., Any], *arguments: Any) -> None:
    try:
        call(*arguments)
    except ApiError as error:
        if error.status not in (304, 409):
            raise


def tame(operation: Operation, body: Any) -> Any:
    """Nothing of the host, no million of tasks; mostly an image that is there."""
    if not isinstance(body, dict):
        return body
    if operation.path == "/containers/create":
        if isinstance(body.get("HostConfig"), dict):
            for key in ("Binds", "Mounts", "VolumesFrom", "Privileged"):
                body["HostConfig"].pop(key, None)
        if next(_numbers) % 4:
            body["Image"] = IMAGE
    mode = body.get("Mode")
    if operation.path.startswith("/services/") and isinstance(mode, dict):
        for kind in mode.values():
            for key, value in kind.items() if isinstance(kind, dict) else ():
                if isinstance(value, int):
                    kind[key] = value % 3
    return body


@pytest.mark.parametrize("operation", OPERATIONS, ids=title)
def test_no_request_makes_the_daemon_fail(
    measured: Daemon, names: dict[str, list[str]], sample_archive: bytes, operation: Operation
) -> None:
    fuzzer = Fuzzer(str(measured.socket), names=names, tame=tame, may_fail=ASK_OTHERS)
    try:
        fuzzer.run(operation, EXAMPLES)
    finally:
        assert measured.api.exchange("GET", "/_ping")[0] == 200
        if operation.path.startswith("/images"):
            measured.api.post("/images/load", sample_archive)
