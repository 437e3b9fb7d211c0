"""One cluster for each module; every test begins with all its machines in the swarm and nothing else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from enxame.testing.cluster import Cluster, Machine
from enxame.testing.daemons import DaemonFailed
from enxame.testing.engine_client import ApiError, EngineClient
from enxame.testing.managers import Managers
from tests.clients.command import Command, docker_programs

T = TypeVar("T", bound=Cluster)


@pytest.fixture(scope="module")
def machines(sample_archive: bytes, short_directory: Callable[[], Path]) -> Iterator[Cluster]:
    with Cluster(short_directory(), sample_archive) as made:
        yield made


def healed(cluster: T) -> T:
    """The cluster as at first. What one test broke for good is not to fail the next: then it is built anew."""
    try:
        cluster.heal()
    except (ApiError, OSError, DaemonFailed, TimeoutError) as broken:
        print(f"the cluster is built anew, as it could not be healed: {broken}", file=sys.stderr)
        cluster.rebuild()
        cluster.heal()
    return cluster


@pytest.fixture
def cluster(machines: Cluster) -> Cluster:
    return healed(machines)


@pytest.fixture(scope="module")
def several_machines(sample_archive: bytes, short_directory: Callable[[], Path]) -> Iterator[Managers]:
    """Three managers and a worker."""
    with Managers(short_directory(), sample_archive) as made:
        yield made


@pytest.fixture
def several(several_machines: Managers) -> Managers:
    return healed(several_machines)


@pytest.fixture
def strangers(several_machines: Managers) -> Managers:
    """The same machines, each in no swarm."""
    try:
        several_machines.disband()
    except (ApiError, OSError, DaemonFailed, TimeoutError):
        several_machines.rebuild()
    return several_machines


@pytest.fixture
def fresh_client() -> Iterator[Callable[[Machine], EngineClient]]:
    """Makes clients of one's own, closed in the end: the machine's may hang with its link."""
    with ExitStack() as clients:
        yield lambda machine: clients.enter_context(EngineClient(str(machine.socket)))


@pytest.fixture(params=docker_programs()[:1])
def docker(request: pytest.FixtureRequest, tmp_path: Path):
    """A stock docker command for a machine: ``docker(machine)("node", "ls")``."""
    return lambda machine: Command(request.param, machine, tmp_path)
