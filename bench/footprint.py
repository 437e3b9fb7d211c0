"""What a daemon costs: memory and processor time, read from /proc."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

MEGABYTE = 1_000_000
TICKS = os.sysconf("SC_CLK_TCK")


def resident_megabytes(pids: Iterable[int]) -> float:
    """The resident memory of the processes, pages shared between them counted each time."""
    return _sum(pids, "Rss:")


def proportional_megabytes(pids: Iterable[int]) -> float:
    """The same with each shared page divided among those that share it."""
    return _sum(pids, "Pss:")


def _sum(pids: Iterable[int], field: str) -> float:
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(field):
                    total += int(line.split()[1]) * 1024
    return total / MEGABYTE


def processor_seconds(pids: Iterable[int]) -> float:
    """User and system time of the processes and of the children that they have waited for."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(int(ticks) for ticks in fields[11:15])
    return total / TICKS
