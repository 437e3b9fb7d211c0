"""What a daemon holds of the kernel and of the disk: taken before and after, the difference is what leaked."""

import os
import re
from contextlib import suppress
from pathlib import Path

from enxame.testing.daemons import Daemon, wait_until

Holdings = dict[str, frozenset[str]]

POOLED = {"threads": 8, "descriptors": 8, "namespaces": 16}


class LeakProbe:
    """Looks at one daemon from outside. Only what must return to what it was before: no caches, no logs."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._containers: set[str] = set()

    def saw(self, container: str) -> None:
        """Remember a container's full id: its cgroups and files are looked for."""
        self._containers.add(container)

    def holdings(self) -> Holdings:
        """Everything at this moment, by kind."""
        host = self._daemon.network.host
        return {
            "mounts": frozenset(self._mounts()),
            "namespaces": frozenset(self._files_below("netns")),
            "links": frozenset(re.findall(r"^\d+: ([^:@]+)", host.ip("-o", "link"), re.MULTILINE)),
            "rules": frozenset(without_counters(host.run("nft", "list", "ruleset"))),
            "cgroups": frozenset(self._cgroups()),
            "descriptors": frozenset(self._descriptors()),
            "threads": frozenset(os.listdir(f"/proc/{self._daemon.pid}/task")),
            "monitors": frozenset(map(str, self._daemon.monitor_pids())),
            "container files": frozenset(self._container_files()),
        }

    def leaked(self, before: Holdings) -> dict[str, list[str]]:
        """What is there now and was not there before, by kind; the kinds with nothing are left out.

        Threads, descriptors and network namespaces are kept in pools: their number counts, beyond a pool's size.
        """
        found = {}
        for kind, now in self.holdings().items():
            more = sorted(now - before[kind])
            if len(now) > len(before[kind]) + POOLED[kind] if kind in POOLED else more:
                found[kind] = more
        return found

    def expect_nothing_leaked(self, before: Holdings, *, timeout: float = 15) -> None:
        """Wait until all is given back; an AssertionError names what is not."""
        try:
            wait_until(lambda: not self.leaked(before), "all is given back", timeout=timeout, interval=0.2)
        except TimeoutError:
            raise AssertionError(f"leaked: {self.leaked(before)}") from None

    def _mounts(self) -> list[str]:
        directory = str(self._daemon.directory)
        lines = Path(f"/proc/{self._daemon.pid}/mountinfo").read_text().splitlines()
        points = [line.split()[4] for line in lines]
        return [point for point in points if directory in point and "/netns/" not in point]  # those count as namespaces

    def _files_below(self, name: str) -> list[str]:
        return [path.name for path in self._daemon.exec_root.rglob(f"{name}/*")]

    def _cgroups(self) -> list[str]:
        root = Path("/sys/fs/cgroup")
        depths = ("*/{}", "*/*/{}")  # unified; one hierarchy a controller
        return [str(path) for each in self._containers for depth in depths for path in root.glob(depth.format(each))]

    def _descriptors(self) -> list[str]:
        held = []
        directory = Path(f"/proc/{self._daemon.pid}/fd")
        for descriptor in directory.iterdir():
            with suppress(OSError):
                held.append(f"{descriptor.name} {descriptor.readlink()}")
        return held

    def _container_files(self) -> list[str]:
        held = []
        for root in (self._daemon.data_root, self._daemon.exec_root):
            for parent in (root, *root.glob("*/"), *root.glob("*/*/")):
                with suppress(OSError):  # gone meanwhile
                    held += [str(path) for path in parent.iterdir() if path.name[:64] in self._containers]
        return held


def without_counters(ruleset: str) -> list[str]:
    """The lines of a list of rules as they are before any packet came."""
    return [re.sub(r"counter packets \d+ bytes \d+", "counter", line).strip() for line in ruleset.splitlines()]
