"""Who is on the swarm's networks, as the manager told this node, and who is to hear of changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from enxame.engine.networks.table_files import TableFiles
from enxame.engine.uncancelled import finished
from enxame.errors import EnxameError
from enxame.model.dispatch import NetworkEndpoint, NetworkPeer, NetworkService, NetworkTable

_log = logging.getLogger(__name__)


class _Entry(Protocol):
    @property
    def id(self) -> str: ...


E = TypeVar("E", bound=_Entry)

#: An entry before and after; None: it was, or is, not there.
Turn = tuple[E | None, E | None]


@dataclass(slots=True)
class KnownTable:
    """One network's table, by id. To be read only."""

    network_id: str
    endpoints: dict[str, NetworkEndpoint] = field(default_factory=dict)
    services: dict[str, NetworkService] = field(default_factory=dict)
    peers: dict[str, NetworkPeer] = field(default_factory=dict)

    def told(self) -> NetworkTable:
        """As the manager would tell it."""
        return NetworkTable(
            network_id=self.network_id,
            complete=True,
            endpoints=list(self.endpoints.values()),
            services=list(self.services.values()),
            peers=list(self.peers.values()),
        )


@dataclass(frozen=True, slots=True)
class TableChange:
    """What became different on one network. ``table`` is as it is now; ``gone``: this node has no more to do with the
    network (the table is empty). ``anew``: the table was told as a whole; what is the same is not named.
    """

    table: KnownTable
    endpoints: Mapping[str, Turn[NetworkEndpoint]]
    services: Mapping[str, Turn[NetworkService]]
    peers: Mapping[str, Turn[NetworkPeer]]
    anew: bool = False
    gone: bool = False

    @property
    def network_id(self) -> str:
        """Of which network."""
        return self.table.network_id


Observer = Callable[[Sequence[TableChange]], Awaitable[None]]


class NetworkTables:
    """All tables that this node was told. Observers are called in the order of their subscription, one change after
    the other, each with all that came together, also when who said it does not wait for that: nobody would tell them
    later. With ``files`` the next daemon will know them, too.
    """

    def __init__(self, files: TableFiles | None = None) -> None:
        self._files = files
        self._tables: dict[str, KnownTable] = {}
        self._observers: list[Observer] = []
        self._telling = asyncio.Lock()

    def __iter__(self) -> Iterator[KnownTable]:
        return iter(list(self._tables.values()))

    def get(self, network_id: str) -> KnownTable | None:
        """A network's table; None while it was not told."""
        return self._tables.get(network_id)

    def subscribe(self, observer: Observer) -> None:
        """Tell of all changes from now on."""
        self._observers.append(observer)

    def load(self) -> None:
        """Know what an earlier daemon was told. Observers are not told."""
        for told in self._files.load() if self._files is not None else ():
            self._take(told)

    async def set(self, tables: Sequence[NetworkTable], *, complete: bool) -> None:
        """Take in what the manager says. ``complete``: there are no other tables.

        Raises:
            EnxameError: an observer could not do its part; the others did theirs.
        """
        await finished(self._set(tables, complete=complete))

    async def _set(self, tables: Sequence[NetworkTable], *, complete: bool) -> None:
        async with self._telling:
            changes: list[TableChange] = []
            for table in tables:
                changes.append(self._take(table))
                if self._files is not None:
                    self._files.keep(table, changes[-1].table.told)
            if complete:
                named = {table.network_id for table in tables}
                changes += [self._end(network_id) for network_id in list(self._tables) if network_id not in named]
            await self._tell(changes)

    async def drop(self, network_id: str) -> None:
        """This node has no more to do with a network. Idempotent."""
        await finished(self._drop(network_id))

    async def _drop(self, network_id: str) -> None:
        async with self._telling:
            if network_id in self._tables:
                await self._tell([self._end(network_id)])

    async def _tell(self, changes: Sequence[TableChange]) -> None:
        errors: list[EnxameError] = []
        for observer in self._observers if changes else ():
            try:
                await observer(changes)
            except EnxameError as error:
                _log.error("%s", error)
                errors.append(error)
        if errors:
            raise errors[0]

    def _take(self, told: NetworkTable) -> TableChange:
        known = self._tables.setdefault(told.network_id, KnownTable(told.network_id))
        return TableChange(
            known,
            _merge(known.endpoints, told.endpoints, told.removed_endpoints, complete=told.complete),
            _merge(known.services, told.services, told.removed_services, complete=told.complete),
            _merge(known.peers, told.peers, told.removed_peers, complete=told.complete),
            anew=told.complete,
        )

    def _end(self, network_id: str) -> TableChange:
        known = self._tables.pop(network_id)
        if self._files is not None:
            self._files.drop(network_id)
        return TableChange(
            known,
            _merge(known.endpoints, (), (), complete=True),
            _merge(known.services, (), (), complete=True),
            _merge(known.peers, (), (), complete=True),
            gone=True,
        )


def _merge(known: dict[str, E], told: Iterable[E], removed: Iterable[str], *, complete: bool) -> dict[str, Turn[E]]:
    """Take entries in; those that changed."""
    turns: dict[str, Turn[E]] = {}
    gone = set(removed)
    if complete:
        told = list(told)
        gone = known.keys() - {entry.id for entry in told}
    for id_ in gone:
        before = known.pop(id_, None)
        if before is not None:
            turns[id_] = (before, None)
    for entry in told:
        before = known.get(entry.id)
        if before != entry:
            known[entry.id] = entry
            turns[entry.id] = (before, entry)
    return turns
