"""Finds drivers by name: our own, and those that other packages bring."""

import importlib
from importlib.metadata import entry_points
from typing import Final, cast

from enxame.machine.driver import ENTRY_POINTS, Driver
from enxame.machine.errors import MachineError

_OWN: Final = {
    "generic": "enxame.machine.generic:GenericDriver",
    "local": "enxame.machine.local.driver:LocalDriver",
}
DEFAULT: Final = "local"


def driver_class(name: str) -> type[Driver]:
    """Raises MachineError for an unknown name or a driver that cannot be loaded."""
    if name in _OWN:
        module, _, attribute = _OWN[name].partition(":")
        return cast("type[Driver]", getattr(importlib.import_module(module), attribute))
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        try:
            return cast("type[Driver]", entry.load())
        except Exception as problem:
            raise MachineError(f'Error loading driver "{name}": {problem}') from problem
    raise MachineError(f'Driver "{name}" not found. There are: {", ".join(driver_names())}')


def driver_names() -> list[str]:
    """All that are installed, sorted."""
    return sorted({*_OWN, *(entry.name for entry in entry_points(group=ENTRY_POINTS))})
