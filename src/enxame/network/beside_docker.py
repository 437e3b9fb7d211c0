"""Lets packets of our containers pass where dockerd works on the same machine.

dockerd makes iptables drop forwarded packets that it knows nothing of (and, with br_netfilter, those within a bridge,
too). It leaves a chain for others' rules, DOCKER-USER: ours accept what enters or leaves our bridges. Which of those
packets pass is then still up to our own table. The rules stay when the daemon ends, as do the containers.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar

_log = logging.getLogger(__name__)
T = TypeVar("T")

CHAIN: Final = "DOCKER-USER"
#: Between looks, in seconds: dockerd may be started, and the chain be emptied, at any time.
_LOOK_EVERY: Final = 15.0
_DEADLINE: Final = 10.0
_PROGRAMS: Final = {"iptables": "ip_tables_names", "ip6tables": "ip6_tables_names"}


class OnMachine(Protocol):
    """Runs blocking work in a thread that is in the machine's network namespace."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]:
        """The work's result."""


class BesideDocker:
    """``bridges`` are names of links as iptables has them: ``enx-+`` means all that begin so."""

    def __init__(self, on_machine: OnMachine, bridges: Sequence[str]) -> None:
        self._on_machine = on_machine
        self._rules = [[way, bridge, "-j", "ACCEPT"] for bridge in bridges for way in ("-o", "-i")]
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look at once, then again and again."""
        await self._on_machine(self.look)
        self._looking = asyncio.create_task(self._look_on(), name="beside dockerd")

    async def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            await self._on_machine(self.look)

    def look(self) -> None:
        """Add what is missing, where dockerd's chain is. Blocks. Never fails: the machine's firewall is not ours."""
        for program, names in _PROGRAMS.items():
            try:
                listing = _run(program, "-S", CHAIN) if _is_used(program, names) else None
                if listing is None:
                    continue
                for rule in self._rules:
                    if f"-A {CHAIN} {' '.join(rule)}" not in listing.splitlines():
                        _run(program, "-I", CHAIN, *rule)
                        _log.info("added to dockerd's chain: %s -I %s %s", program, CHAIN, " ".join(rule))
            except (OSError, subprocess.SubprocessError) as error:
                _log.debug("%s: %s", program, error)


def _is_used(program: str, names: str) -> bool:
    """Asking the older kind of iptables loads it into the kernel: only where somebody did so before."""
    version = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_DEADLINE, check=True)
    if "nf_tables" in version.stdout:
        return True
    try:
        return "filter" in Path("/proc/thread-self/net", names).read_text().split()
    except OSError:
        return False


def _run(program: str, *argv: str) -> str | None:
    """Its output; None when there is no such chain."""
    done = subprocess.run(
        [program, "-w", "2", *argv],
        capture_output=True,
        text=True,
        timeout=_DEADLINE,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout if done.returncode == 0 else None
