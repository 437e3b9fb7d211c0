"""The commands that the tests of clients run."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from enxame.testing.daemons import Daemon
from tests.clients.command import Command, docker_programs
from tests.conftest import remove_containers

ENXAME = str(Path(sys.executable).with_name("enxame"))


@pytest.fixture(params=docker_programs())
def docker(request: pytest.FixtureRequest, daemon: Daemon, tmp_path: Path) -> Command:
    """A stock docker command, unmodified; the test runs with each that is installed."""
    return Command(request.param, daemon, tmp_path)


@pytest.fixture
def enxame(daemon: Daemon, tmp_path: Path) -> Command:
    return Command(ENXAME, daemon, tmp_path)


@pytest.fixture(params=[*docker_programs(), ENXAME])
def tool(request: pytest.FixtureRequest, daemon: Daemon, tmp_path: Path) -> Command:
    """docker and enxame alike: what both must do."""
    return Command(request.param, daemon, tmp_path)


@pytest.fixture
def tidy(daemon: Daemon) -> Iterator[None]:
    """No containers are left after the test."""
    yield
    remove_containers(daemon)
