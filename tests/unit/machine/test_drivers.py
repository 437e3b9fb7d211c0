from importlib.metadata import EntryPoint, EntryPoints

import pytest

from enxame.machine import drivers
from enxame.machine.cluster import PortMapping, parse_port
from enxame.machine.errors import MachineError
from enxame.machine.generic import GenericDriver
from enxame.machine.local.driver import LocalDriver


def test_our_own_drivers_are_found() -> None:
    assert drivers.driver_class("local") is LocalDriver
    assert drivers.driver_class("generic") is GenericDriver
    with pytest.raises(MachineError, match=r'Driver "abacus" not found\. There are: generic, local'):
        drivers.driver_class("abacus")


def test_other_packages_bring_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = EntryPoint("theirs", "enxame.machine.generic:GenericDriver", "enxame.machine_drivers")
    broken = EntryPoint("broken", "no.such.module:Driver", "enxame.machine_drivers")
    known = EntryPoints([theirs, broken])
    monkeypatch.setattr(drivers, "entry_points", known.select)
    assert drivers.driver_names() == ["broken", "generic", "local", "theirs"]
    assert drivers.driver_class("theirs") is GenericDriver
    with pytest.raises(MachineError, match='Error loading driver "broken"'):
        drivers.driver_class("broken")


def test_ports_of_clusters() -> None:
    assert parse_port("8080:80") == PortMapping(8080, 80)
    assert parse_port("53/udp") == PortMapping(53, 53, "udp")
    for wrong in ("", "a:b", "80:", ":80", "0:80", "80:65536", "80:80/sctp"):
        with pytest.raises(ValueError, match=r"expected|between"):
            parse_port(wrong)
