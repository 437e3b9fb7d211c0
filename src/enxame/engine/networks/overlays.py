"""Leads packets to containers of other machines: the tables that the manager sends become what tunnels know."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from enxame.engine.networks.registry import NetworkRegistry
from enxame.engine.networks.tables import KnownTable, NetworkTables, TableChange
from enxame.engine.networks.underlay import Underlay
from enxame.errors import EnxameError
from enxame.model.base import decode, encode
from enxame.model.dispatch import DataPath, NetworkEndpoint, NetworkPeer
from enxame.network.bridge import mac_of
from enxame.network.dataplane import DataPlane
from enxame.network.rtnetlink import Address
from enxame.network.vxlan import Remote, node_mac
from enxame.network.xfrm import Key

_log = logging.getLogger(__name__)
_RETRY_SECONDS: Final = 2.0


class Overlays:
    """``file`` keeps where this machine takes packets, for a restart of the daemon without a manager."""

    def __init__(self, file: Path, registry: NetworkRegistry, dataplane: DataPlane, tables: NetworkTables) -> None:
        self._file = file
        self._registry = registry
        self._dataplane = dataplane
        self._tables = tables
        #: Which entry a link address was programmed for, by network.
        self._owners: dict[str, dict[bytes, str]] = {}
        #: Networks whose tunnels must be compared with their tables.
        self._unsure: set[str] = set()
        self._lock = asyncio.Lock()
        self._retry: asyncio.Task[None] | None = None
        tables.subscribe(self._changed)

    async def load(self) -> None:
        """What was known when the daemon ended."""
        try:
            told = decode(self._file.read_bytes(), DataPath)
            self._registry.underlay = await self._underlay(told)
        except FileNotFoundError:
            return
        except (EnxameError, ValueError, OSError) as error:
            _log.error("%s cannot be used: %s", self._file, error)

    async def close(self) -> None:
        """Stop trying. What is programmed stays."""
        if self._retry is not None:
            self._retry.cancel()
            await asyncio.gather(self._retry, return_exceptions=True)

    async def set_data_path(self, told: DataPath) -> bool:
        """Where this machine takes packets, as the manager says; whether that is news.

        Raises:
            EnxameError: it is no address, or it cannot be kept.
        """
        try:
            underlay = await self._underlay(told)
        except ValueError as error:
            raise EnxameError(f"invalid data path address: {error}") from error
        if underlay == self._registry.underlay:
            return False
        self._registry.underlay = underlay
        draft = self._file.with_suffix(".new")
        try:
            draft.write_bytes(encode(replace(told, keys=[])))
            draft.replace(self._file)
        except OSError as error:
            raise EnxameError(f"store {self._file}: {error.strerror}") from error
        return True

    async def refresh(self, network_id: str) -> None:
        """A network's bridge was made, or made differently: its tunnel may know nothing.

        Raises:
            EnxameError: the kernel refuses.
        """
        async with self._lock:
            table = self._tables.get(network_id)
            if table is not None:
                await self._set_all(table)

    async def _underlay(self, told: DataPath) -> Underlay:
        address = ip_address(told.address)
        keys = tuple(Key(key.number, key.secret) for key in told.keys)
        link = await self._dataplane.link_with(address)
        if link is None:
            _log.warning("no link of this machine has its data path address %s", address)
            return Underlay(told.node_id, address, told.port, local=False, keys=keys)
        return Underlay(told.node_id, address, told.port, mtu=link.mtu, keys=keys)

    async def _changed(self, changes: Sequence[TableChange]) -> None:
        errors: list[EnxameError] = []
        async with self._lock:
            for change in changes:
                if change.gone:
                    self._owners.pop(change.network_id, None)
                    self._unsure.discard(change.network_id)
                    continue
                try:
                    if change.anew or change.network_id in self._unsure:
                        await self._set_all(change.table)
                    else:
                        await self._change(change)
                except EnxameError as error:
                    errors.append(error)
                    self._unsure.add(change.network_id)
        if self._unsure and (self._retry is None or self._retry.done()):
            self._retry = asyncio.create_task(self._try_again(), name="tunnels")
        if errors:
            raise errors[0]

    async def _try_again(self) -> None:
        while self._unsure:
            await asyncio.sleep(_RETRY_SECONDS)
            async with self._lock:
                for network_id in list(self._unsure):
                    table = self._tables.get(network_id)
                    try:
                        if table is not None:
                            await self._set_all(table)
                        self._unsure.discard(network_id)
                    except EnxameError as error:
                        _log.error("%s", error)

    async def _set_all(self, table: KnownTable) -> None:
        tunnel = self._tunnel(table.network_id)
        if tunnel is None:
            return
        remotes = dict(self._remotes(table))
        self._owners[table.network_id] = {remote.mac: key for key, remote in remotes.items()}
        await self._dataplane.tunnels.set_all(tunnel, list(remotes.values()))
        self._unsure.discard(table.network_id)

    async def _change(self, change: TableChange) -> None:
        tunnel = self._tunnel(change.network_id)
        if tunnel is None:
            return
        owners = self._owners.setdefault(change.network_id, {})
        turns = [
            *((key, self._endpoint(old), self._endpoint(new)) for key, (old, new) in change.endpoints.items()),
            *((key, self._peer(old), self._peer(new)) for key, (old, new) in change.peers.items()),
        ]
        gone: list[Remote] = []
        for key, before, after in turns:
            # An address may have been given to another already.
            if before is not None and before != after and owners.get(before.mac) == key:
                gone.append(before)
                del owners[before.mac]
        come = [(key, after) for key, before, after in turns if after is not None and before != after]
        owners.update((remote.mac, key) for key, remote in come)
        if gone or come:
            await self._dataplane.tunnels.change(tunnel, gone, [remote for _, remote in come])

    def _tunnel(self, network_id: str) -> str | None:
        network = self._registry.by_id(network_id)
        tunnel = network.bridge.tunnel if network is not None and network.bridge is not None else None
        return tunnel.name if tunnel is not None else None

    def _remotes(self, table: KnownTable) -> Iterator[tuple[str, Remote]]:
        for key, endpoint in table.endpoints.items():
            remote = self._endpoint(endpoint)
            if remote is not None:
                yield key, remote
        for key, peer in table.peers.items():
            remote = self._peer(peer)
            if remote is not None:
                yield key, remote

    def _endpoint(self, entry: NetworkEndpoint | None) -> Remote | None:
        if entry is None or not entry.addresses:
            return None
        addresses = tuple(ip_address(text) for text in entry.addresses)
        first = next((address for address in addresses if isinstance(address, IPv4Address)), None)
        if first is None:
            return None
        mac = bytes.fromhex(entry.link_address.replace(":", "")) if entry.link_address else mac_of(first)
        return self._remote(entry.node_id, entry.data_path, mac, addresses)

    def _peer(self, entry: NetworkPeer | None) -> Remote | None:
        """A machine's own bridge: where answers go that have to leave the swarm there."""
        return self._remote(entry.id, entry.data_path, node_mac(entry.id), ()) if entry is not None else None

    def _remote(self, node_id: str, data_path: str, mac: bytes, addresses: tuple[Address, ...]) -> Remote | None:
        underlay = self._registry.underlay
        if underlay is None or node_id == underlay.node_id:
            return None
        machine = ip_address(data_path)
        if machine.version != underlay.address.version:
            return None  # no packet gets from one to the other
        return Remote(mac, addresses, machine)
