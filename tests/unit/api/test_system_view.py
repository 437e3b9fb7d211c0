"""What ``docker info`` warns of."""

from dataclasses import replace
from pathlib import Path

import pytest

from enxame.api import host_facts
from enxame.api.context import DaemonFacts
from enxame.api.system_view import warnings
from enxame.model.cluster import SwarmInfo


@pytest.mark.parametrize("filtered", [True, False])
def test_containers_without_a_filter_of_system_calls_are_warned_of(filtered: bool) -> None:
    host = replace(host_facts.host_facts(), seccomp=filtered)
    told = "\n".join(warnings(DaemonFacts(id="d", name="here", data_root="/nowhere"), host, SwarmInfo()))
    assert ("No seccomp profile" in told) is not filtered


def test_a_machine_without_the_profile_has_no_filter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host_facts, "DEFAULT_PROFILE", tmp_path / "missing")
    assert not host_facts.host_facts().seccomp
