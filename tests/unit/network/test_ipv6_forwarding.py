from __future__ import annotations

from pathlib import Path

import pytest

from enxame.network import ipv6_forwarding
from enxame.network.ipv6_forwarding import Ipv6Forwarding


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings of a machine that has IPv6, forwards nothing, and learns eth0's routes from routers."""
    made = tmp_path / "conf"
    for link, accepts in (("all", "1"), ("default", "1"), ("eth0", "1"), ("eth1", "0")):
        (made / link).mkdir(parents=True)
        (made / link / "accept_ra").write_text(accepts)
    (made / "all/forwarding").write_text("0\n")
    (made / "default/disable_ipv6").write_text("0\n")
    monkeypatch.setattr(ipv6_forwarding, "_CONF", made)
    return made


def looked(exec_root: Path) -> Ipv6Forwarding:
    found = Ipv6Forwarding(exec_root)
    found.look()
    return found


def test_a_machine_that_was_no_router_becomes_none_for_others_and_goes_on_learning_routes(
    conf: Path, tmp_path: Path
) -> None:
    first = looked(tmp_path / "run")
    assert (first.is_on, first.forward_others) == (True, False)
    first.switch_on()
    assert (conf / "all/forwarding").read_text() == "1"
    assert [(conf / link / "accept_ra").read_text() for link in ("eth0", "eth1")] == ["2", "0"]
    again = looked(tmp_path / "run")
    assert (again.is_on, again.forward_others) == (True, False)


def test_a_router_stays_one(conf: Path, tmp_path: Path) -> None:
    (conf / "all/forwarding").write_text("1\n")
    found = looked(tmp_path / "run")
    found.switch_on()
    assert (found.is_on, found.forward_others) == (True, True)
    assert (conf / "eth0/accept_ra").read_text() == "1"


def test_ipv6_may_be_switched_off_or_missing(conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (conf / "default/disable_ipv6").write_text("1\n")
    assert not looked(tmp_path / "run").is_on
    monkeypatch.setattr(ipv6_forwarding, "_CONF", tmp_path / "nothing")
    found = looked(tmp_path / "run")
    assert (found.is_on, found.forward_others) == (False, False)
