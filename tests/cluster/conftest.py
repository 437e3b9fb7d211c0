"""One cluster for each module; every test begins with all its machines in the swarm and nothing else."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from enxame.testing.cluster import Cluster
from enxame.testing.managers import Managers
from tests.clients.command import Command, docker_programs


@pytest.fixture(scope="module")
def machines(sample_archive: bytes) -> Iterator[Cluster]:
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces, containers")
    # Not pytest's own directory: the paths of sockets must be short.
    with (
        tempfile.TemporaryDirectory(prefix="enxc-", dir="/var/tmp") as directory,
        Cluster(Path(directory), sample_archive) as made,
    ):
        yield made


@pytest.fixture
def cluster(machines: Cluster) -> Cluster:
    machines.heal()
    return machines


@pytest.fixture(scope="module")
def several_machines(sample_archive: bytes) -> Iterator[Managers]:
    """Three managers and a worker."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces, containers")
    with (
        tempfile.TemporaryDirectory(prefix="enxm-", dir="/var/tmp") as directory,
        Managers(Path(directory), sample_archive) as made,
    ):
        yield made


@pytest.fixture
def several(several_machines: Managers) -> Managers:
    several_machines.heal()
    return several_machines


@pytest.fixture(params=docker_programs()[:1])
def docker(request: pytest.FixtureRequest, tmp_path: Path):
    """A stock docker command for a machine: ``docker(machine)("node", "ls")``."""
    return lambda machine: Command(request.param, machine, tmp_path)
