"""The routing mesh's ports on this machine: reserved, programmed and taken back, as ingress networks' tables say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from enxame.engine.networks.published_services import PublishedServices, Wanted
from enxame.engine.networks.tables import KnownTable, NetworkTables, TableChange
from enxame.engine.networks.virtual_addresses import first_of_each
from enxame.errors import EnxameError
from enxame.model.dispatch import NetworkEndpoint
from enxame.network.dataplane import DataPlane
from enxame.network.held_ports import HeldPort, HeldPorts, PortTaken
from enxame.network.ingress import PortKey, Published
from enxame.network.rtnetlink import Address

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


class SwarmPorts:
    """``node_id`` tells which machine this is."""

    def __init__(
        self, held: HeldPorts, dataplane: DataPlane, tables: NetworkTables, node_id: Callable[[], str]
    ) -> None:
        self._held_ports = held
        self._dataplane = dataplane
        self._tables = tables
        self._node_id = node_id
        self._networks: dict[str, PublishedServices] = {}
        self._reserved: dict[PortKey, HeldPort] = {}
        self._lock = asyncio.Lock()
        self._retry: asyncio.Task[None] | None = None
        tables.subscribe(self._changed)

    def load(self) -> dict[PortKey, Published]:
        """What the tables that an earlier daemon kept say: it goes on until the manager tells otherwise."""
        for table in self._tables:
            self._take(table, table.endpoints.values(), table.services)
        wanted = self._wanted()
        for protocol, port in wanted:
            self._reserved[protocol, port] = self._held_ports.hold(protocol, None, port, insist=True)
        return {key: published for key, (_, published) in wanted.items()}

    async def refresh(self) -> None:
        """This machine is another than before. Raises as observers of tables do."""
        async with self._lock:
            changed = [self._take(table, (), table.services) for table in self._tables]
            problems = await self._apply(()) if any(changed) else []
        self._tell(problems)

    async def close(self) -> None:
        """Stop trying. What is programmed stays."""
        if self._retry is not None:
            self._retry.cancel()
            await asyncio.gather(self._retry, return_exceptions=True)

    async def _changed(self, changes: Sequence[TableChange]) -> None:
        """Make the tables true; only what differs is touched.

        Raises:
            IngressPortsTaken: other programs or containers hold some; these are tried again until they are free.
            EnxameError: the kernel refuses.
        """
        gone: set[Address] = set()
        async with self._lock:
            concerned = False
            for change in changes:
                turns = [turn for turn in change.endpoints.values() if any(item and item.ports for item in turn)]
                if not turns and change.network_id not in self._networks and not _publishes(change.table):
                    continue
                concerned = True
                self._take(change.table, [item for turn in turns for item in turn if item], change.services)
                left = [old for old, new in turns if new is None and old is not None]
                gone.update(address for old in left for address in first_of_each(old.addresses))
                if change.gone:
                    self._networks.pop(change.network_id, None)
            if not concerned:
                return
            problems = await self._apply(gone)
        self._tell(problems)

    def _take(self, table: KnownTable, endpoints: Iterable[NetworkEndpoint], service_ids: Iterable[str]) -> bool:
        known = self._networks.setdefault(table.network_id, PublishedServices())
        return known.take(table, endpoints, service_ids, self._node_id())

    def _wanted(self) -> Wanted:
        return {key: entry for known in self._networks.values() for key, entry in known.wanted.items()}

    def _tell(self, problems: Sequence[IngressProblem]) -> None:
        if problems:
            if self._retry is None or self._retry.done():
                self._retry = asyncio.create_task(self._try_again(), name="published ports")
            raise IngressPortsTaken(problems)

    async def _try_again(self) -> None:
        while True:
            await asyncio.sleep(_RETRY_SECONDS)
            async with self._lock:
                try:
                    if not await self._apply(()):
                        return
                except EnxameError as error:
                    _log.error("published ports could not be programmed: %s", error)

    async def _apply(self, gone: Iterable[Address]) -> list[IngressProblem]:
        wanted = self._wanted()
        problems: list[IngressProblem] = []
        for key in wanted.keys() - self._reserved.keys():
            try:
                self._reserved[key] = self._held_ports.hold(key[0], None, key[1])
            except PortTaken as error:
                problems.append(IngressProblem(wanted[key][0], *key, error.message))
        services = {key: published for key, (_, published) in wanted.items() if key in self._reserved}
        await self._dataplane.ports.set_services(services, gone=gone)
        for key in self._reserved.keys() - services.keys():
            self._held_ports.give_back(self._reserved.pop(key))
        return problems


def _publishes(table: KnownTable) -> bool:
    return any(service.ports for service in table.services.values())
