"""The control groups of local machines: all of a machine's processes are below one of its own."""

import contextlib
import os
from pathlib import Path
from typing import Final

PARENT: Final = "enxame-machines"
_ROOT: Final = Path("/sys/fs/cgroup")
_UNITS: Final = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
#: A daemon needs so much: bytes, processors.
_LEAST_MEMORY: Final = 64 << 20
_LEAST_CPUS: Final = 0.05
_MOST_CPUS: Final = 10_000.0
#: In which a share of processors is counted: microseconds.
_PERIOD: Final = 100_000


def group_of(network: str, machine: str) -> str:
    """The group's path below every hierarchy's root."""
    return f"{PARENT}/{network}-{machine}"


def parse_memory(text: str) -> int:
    """Bytes of ``512m``, ``2g``; a number alone is in MB, as docker-machine's drivers have it; 0 for no text.

    Raises:
        ValueError: neither.
    """
    number, unit = (text[:-1], text[-1].lower()) if text and not text[-1].isdigit() else (text, "m")
    if not text:
        return 0
    if not number.isdigit() or unit not in _UNITS or int(number) * _UNITS[unit] < _LEAST_MEMORY:
        raise ValueError(f"{text!r} is no size of memory of at least 64m (512, 512m, 2g)")
    return int(number) * _UNITS[unit]


def parse_cpus(text: str) -> float:
    """``1``, ``0.5``; 0 for no text. Raises ValueError."""
    try:
        cpus = float(text or 0)
    except ValueError:
        cpus = -1.0
    if (text and cpus < _LEAST_CPUS) or not cpus <= _MOST_CPUS:
        raise ValueError(f"{text!r} is no number of processors of at least {_LEAST_CPUS:g} (1, 0.5)")
    return cpus


def limit(group: str, memory: int, cpus: float, root: Path = _ROOT) -> None:
    """Makes the machine's group with these limits (bytes, processors; 0: none).

    Raises:
        OSError: this host's kernel cannot.
    """
    if not memory and not cpus:
        return
    if (root / "cgroup.controllers").exists():
        place = root
        for part in Path(group).parts:
            (place / "cgroup.subtree_control").write_text("+memory +cpu")
            place /= part
            place.mkdir(exist_ok=True)
        settings = {"memory.max": str(memory)} if memory else {}
        if cpus:
            settings["cpu.max"] = f"{int(cpus * _PERIOD)} {_PERIOD}"
        _write(place, settings)
        return
    if memory:
        _write(root / "memory" / group, {"memory.limit_in_bytes": str(memory)})
    if cpus:
        _write(root / "cpu" / group, {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": str(int(cpus * _PERIOD))})


def _write(place: Path, settings: dict[str, str]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, value in settings.items():
        (place / name).write_text(value)


def remove(group: str) -> None:
    """Removes the machine's (empty) group, all groups below it, and the parent after the last machine."""
    for root in (_ROOT, *_ROOT.iterdir()):
        top = root / group
        if root.is_symlink() or not top.is_dir():
            continue
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):  # still in use: the kernel says so
                os.rmdir(directory)
        with contextlib.suppress(OSError):
            top.parent.rmdir()
