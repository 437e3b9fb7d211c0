"""Processor time of what is measured: unlike rates, it hardly depends on what else the machine does."""

from __future__ import annotations

import pathlib
import resource
from collections.abc import Iterable

_PROCESSES = pathlib.Path("/proc")


def used(servers: Iterable[int]) -> float:
    """Seconds so far: of processes that run on, of children that have ended, and of the kernel's threads for packets.
    What the kernel does with a packet counts for whoever sent it.
    """
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    nanoseconds = sum(_runtime(pid) for pid in (*servers, *_SOFT_INTERRUPTS))
    return children.ru_utime + children.ru_stime + nanoseconds / 1e9


def _runtime(pid: int) -> int:
    threads = (_PROCESSES / str(pid) / "task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)


def _soft_interrupts() -> list[int]:
    return [
        int(path.parent.name)
        for path in _PROCESSES.glob("[0-9]*/comm")
        if path.exists() and path.read_text().startswith("ksoftirqd/")
    ]


_SOFT_INTERRUPTS = _soft_interrupts()
