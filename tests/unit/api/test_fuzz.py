"""The swarm's part of the API against a real manager over a store in memory, fuzzed from the API's description."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from enxame.api.routing import Operation
from tests.fuzzing import OPERATIONS, Fuzzer, title
from tests.unit.api.conftest import SwarmOfOne, _serve

COLLECTIONS = ("configs", "nodes", "secrets", "services", "swarm", "tasks")
# The first manager's machinery for entering and leaving a swarm is not there.
MEMBERSHIP = ("/swarm/init", "/swarm/join", "/swarm/leave", "/swarm/unlock")


@pytest.fixture(scope="module")
def manager_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A manager that answers in a thread of its own."""
    directory: Path = tmp_path_factory.mktemp("m")
    up = threading.Event()
    loop = asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        membership = SwarmOfOne()
        await membership.found()
        async with asynccontextmanager(_serve)(directory, membership) as served:
            await served.json("POST", "/configs/create", {"Name": "known", "Data": "YQ=="}, status=201)
            await served.json("POST", "/secrets/create", {"Name": "known", "Data": "YQ=="}, status=201)
            spec = {"Name": "known", "TaskTemplate": {"ContainerSpec": {"Image": "x"}}}
            await served.json("POST", "/services/create", spec, status=201)
            up.set()
            await done.wait()
        await membership.manager.store.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="manager")
    thread.start()
    assert up.wait(20)
    yield str(directory / "api.sock")
    loop.call_soon_threadsafe(done.set)
    thread.join(20)
    loop.close()


@pytest.mark.parametrize(
    "operation",
    [one for one in OPERATIONS if one.path.split("/")[1] in COLLECTIONS and one.path not in MEMBERSHIP],
    ids=title,
)
def test_no_request_makes_the_manager_fail(manager_socket: str, operation: Operation) -> None:
    names = {collection: ["known"] for collection in COLLECTIONS} | {"nodes": ["lab1"]}
    Fuzzer(manager_socket, names=names).run(operation, examples=25)
