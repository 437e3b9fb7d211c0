"""Fixtures of the tests of machines."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.lab import MachineLab


@pytest.fixture(scope="module")
def lab() -> Iterator[MachineLab]:
    """One host for all tests of a module."""
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces, control groups")
    with MachineLab() as made:
        yield made


@pytest.fixture
def no_machines(lab: MachineLab) -> Iterator[MachineLab]:
    """The host without any machine, before and after."""
    yield lab
    names = lab("machine", "ls", "-q").split()
    if names:
        lab("machine", "rm", "-f", *names)


@pytest.fixture
def sample(lab: MachineLab, sample_archive: bytes) -> Path:
    """The sample image's archive, where machines see it too."""
    path = lab.directory / "sample.tar"
    path.write_bytes(sample_archive)
    return path
