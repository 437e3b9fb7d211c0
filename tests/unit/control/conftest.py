from __future__ import annotations

import pytest

from tests.unit.control.lab import Lab


@pytest.fixture
def lab() -> Lab:
    return Lab()
