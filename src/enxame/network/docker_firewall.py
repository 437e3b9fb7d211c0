"""Beside dockerd: its packet filter drops whatever it does not know, ours included, unless the chain that it leaves to
users says otherwise.

dockerd sets the policy of iptables' chain FORWARD to DROP, and a drop anywhere is final. ``DOCKER-USER`` is looked
through before. Where that chain exists, rules of ours stand at its end, after those that users put there: what comes
from or goes to our bridges is accepted; our own table decides about it.

iptables keeps its rules in nf_tables, or, as ``iptables-legacy``, in tables of its own: dockerd uses whichever
``iptables`` is. Both are looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

from enxame.errors import EnxameError
from enxame.network import nft_messages
from enxame.network.netlink import NetlinkSocket
from enxame.network.nft_messages import IPV4, IPV6

_log = logging.getLogger(__name__)
T = TypeVar("T")

CHAIN: Final = "DOCKER-USER"
_FAMILIES: Final = ((IPV4, "iptables"), (IPV6, "ip6tables"))
#: Names the tables of iptables-legacy that are in use in the namespace of whoever reads it.
_LEGACY_TABLES: Final = {IPV4: "/proc/thread-self/net/ip_tables_names", IPV6: "/proc/thread-self/net/ip6_tables_names"}
#: Interfaces, in iptables' words: all that begin with that, and the default bridge.
OURS: Final = ("enx-+", "enxame0")
#: Bytes that a rule of ours contains.
_TRACE: Final = b"enx-"
_SECONDS: Final = 2.0
_COMMAND_SECONDS: Final = 10.0


class OnFilter(Protocol):
    """Runs work with a netfilter socket, in a thread that is in the daemon's network namespace."""

    def __call__(self, work: Callable[[NetlinkSocket], T]) -> Awaitable[T]:
        """The work's result."""


class DockerFirewall:
    """Looks now and then: dockerd may be started later, or somebody may flush its chain."""

    def __init__(self, on_filter: OnFilter) -> None:
        self._on_filter = on_filter
        self._task: asyncio.Task[None] | None = None
        self._complained = False

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._watch(), name="Docker's packet filter")

    async def stop(self) -> None:
        """Stop looking. Rules stay: containers go on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            try:
                for family, program in _FAMILIES:
                    for kind, is_missing in (("nft", _is_missing), ("legacy", _is_missing_in_legacy)):
                        if await self._on_filter(partial(is_missing, family)):
                            await self._on_filter(partial(_add, _program(program, kind)))
                            _log.info("dockerd is here, too: %s %s lets our containers' packets pass", program, CHAIN)
                self._complained = False
            except EnxameError as error:
                if not self._complained:
                    _log.error("dockerd's packet filter may drop our containers' packets: %s", error)
                self._complained = True
            await asyncio.sleep(_SECONDS)


def _is_missing(family: int, kernel: NetlinkSocket) -> bool:
    """Whether the chain exists and our rules do not."""
    try:
        rules = kernel.dump(nft_messages.list_rules(family, "filter", CHAIN))
    except EnxameError:
        return False  # no such table
    # The chain that dockerd makes is never empty: it ends with RETURN.
    return bool(rules) and not any(_TRACE in rule for rule in rules)


def _is_missing_in_legacy(family: int, _: NetlinkSocket) -> bool:
    """The same of the tables that nf_tables does not show."""
    try:
        tables = Path(_LEGACY_TABLES[family]).read_text().split()
    except OSError:
        return False  # the kernel has none
    if "filter" not in tables:
        return False
    try:
        rules = _run(_program(dict(_FAMILIES)[family], "legacy"), "-S", CHAIN)
    except EnxameError:
        return False  # no such chain
    return _TRACE.decode() not in rules


def _program(name: str, kind: str) -> str:
    """Where iptables is: ``nft`` or ``legacy``, as far as the machine tells them apart. Raises EnxameError."""
    program = shutil.which(f"{name}-{kind}") or shutil.which(name)
    if program is None:
        raise EnxameError(f"the program {name} is missing")
    return program


def _add(program: str, _: NetlinkSocket) -> None:
    listed = _run(program, "-S", CHAIN).splitlines()
    rules = [line for line in listed if line.startswith("-A")]
    # Before the RETURN at the end.
    place = len(rules) if rules and rules[-1].endswith("-j RETURN") else len(rules) + 1
    for link in OURS:
        for direction in ("-i", "-o"):
            match = (direction, link, "-m", "comment", "--comment", "enxame", "-j", "ACCEPT")
            with contextlib.suppress(EnxameError):
                _run(program, "-C", CHAIN, *match)
                continue
            _run(program, "-I", CHAIN, str(place), *match)
            place += 1


def _run(program: str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [program, "-w", "5", *arguments], capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnxameError(f"iptables: {error}") from error
    if done.returncode:
        raise EnxameError(f"iptables {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
