"""The ports of the routing mesh on this machine: reserved, programmed, and taken back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from msgspec import field

from enxame.errors import EnxameError
from enxame.model.base import Model, decode, encode
from enxame.model.dispatch import IngressPort
from enxame.network.dataplane import DataPlane
from enxame.network.held_ports import HeldPort, HeldPorts, PortTaken
from enxame.network.ingress import Backend, PortKey

_log = logging.getLogger(__name__)
_RETRY_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class IngressProblem:
    """Why a published port of a service does not answer on this machine."""

    service_id: str
    protocol: str
    port: int
    message: str


class IngressPortsTaken(EnxameError):
    """Some ports could not be had; all the others were programmed. ``problems`` has each."""

    def __init__(self, problems: Sequence[IngressProblem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = list(problems)


class _Saved(Model):
    ports: list[IngressPort] = field(default_factory=list)


class SwarmPorts:
    """The wanted list, what of it is reserved, and the file that a restarted daemon begins with."""

    def __init__(self, file: Path, held: HeldPorts, dataplane: DataPlane) -> None:
        self._file = file
        self._held_ports = held
        self._dataplane = dataplane
        self._wanted: list[IngressPort] = []
        self._known: dict[PortKey, tuple[IngressPort, tuple[Backend, ...]]] = {}
        self._reserved: dict[PortKey, HeldPort] = {}
        self._lock = asyncio.Lock()
        self._retry: asyncio.Task[None] | None = None

    def load(self) -> dict[PortKey, tuple[Backend, ...]]:
        """What was programmed when the daemon ended: it goes on until the manager tells otherwise."""
        try:
            self._wanted = decode(self._file.read_bytes(), _Saved).ports
        except FileNotFoundError:
            return {}
        except (EnxameError, OSError) as error:
            _log.error("the published ports in %s cannot be used: %s", self._file, error)
            return {}
        services = self._services()
        for protocol, port in services:
            self._reserved[protocol, port] = self._held_ports.hold(protocol, None, port, insist=True)
        return services

    async def set(self, wanted: Sequence[IngressPort]) -> None:
        """Make the list true; only what differs is touched.

        Raises:
            IngressPortsTaken: other programs or containers hold some; these are tried again until they are free.
            EnxameError: the kernel refuses.
        """
        async with self._lock:
            self._wanted = list(wanted)
            problems = await self._apply()
        if problems:
            if self._retry is None or self._retry.done():
                self._retry = asyncio.create_task(self._try_again(), name="published ports")
            raise IngressPortsTaken(problems)

    async def close(self) -> None:
        """Stop trying. What is programmed stays."""
        if self._retry is not None:
            self._retry.cancel()
            await asyncio.gather(self._retry, return_exceptions=True)

    async def _try_again(self) -> None:
        while True:
            await asyncio.sleep(_RETRY_SECONDS)
            async with self._lock:
                try:
                    if not await self._apply():
                        return
                except EnxameError as error:
                    _log.error("published ports could not be programmed: %s", error)

    async def _apply(self) -> list[IngressProblem]:
        services = self._services()
        problems: list[IngressProblem] = []
        for key in services.keys() - self._reserved.keys():
            try:
                self._reserved[key] = self._held_ports.hold(key[0], None, key[1])
            except PortTaken as error:
                problems.append(IngressProblem(_service_of(self._wanted, key), *key, error.message))
        await self._dataplane.set_services({key: services[key] for key in services if key in self._reserved})
        for key in self._reserved.keys() - services.keys():
            self._held_ports.give_back(self._reserved.pop(key))
        draft = self._file.with_suffix(".new")
        draft.write_bytes(encode(_Saved(ports=[port for port in self._wanted if _key(port) in self._reserved])))
        draft.replace(self._file)
        return problems

    def _services(self) -> dict[PortKey, tuple[Backend, ...]]:
        """Who answers each wanted port. What was worked out before is not worked out again: the list is long and
        little of it changes.
        """
        known: dict[PortKey, tuple[IngressPort, tuple[Backend, ...]]] = {}
        for wanted in self._wanted:
            key = _key(wanted)
            before = self._known.get(key)
            known[key] = before if before is not None and before[0] == wanted else (wanted, backends_of(wanted))
        self._known = known
        return {key: backends for key, (_, backends) in known.items()}


def backends_of(wanted: IngressPort) -> tuple[Backend, ...]:
    """Who answers a port, in a fixed order so that equal sets compare equal."""
    return tuple(sorted({Backend(IPv4Address(item.ip.partition("/")[0]), item.port) for item in wanted.backends}))


def _key(wanted: IngressPort) -> PortKey:
    return wanted.port.protocol or "tcp", wanted.port.published_port


def _service_of(ports: Iterable[IngressPort], key: PortKey) -> str:
    return next((wanted.service_id for wanted in ports if _key(wanted) == key), "")
