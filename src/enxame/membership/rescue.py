"""This node's way back into its swarm: from a backup, alone out of several managers, from another address."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from enxame.backup.form import Backup
from enxame.errors import EnxameError
from enxame.membership import node_files, recovery, state_file
from enxame.membership.addresses import Interface
from enxame.membership.state_file import NodeState
from enxame.membership.state_keys import StateKeys
from enxame.model.backup import Restored, RestoreRequest
from enxame.model.cluster import InitRequest
from enxame.store import pointer as pointers

__all__ = ["Rescue"]

log = logging.getLogger(__name__)

#: What clients send when the user says nothing.
DEFAULT_LISTEN_ADDR: Final = "0.0.0.0:2377"


class Rescue:
    """``directory`` is the swarm's, ``file`` this node's in it. Nothing of the swarm may run meanwhile."""

    def __init__(
        self,
        directory: Path,
        file: Path,
        *,
        keys: StateKeys,
        interfaces: Callable[[], Awaitable[Sequence[Interface]]],
        default_advertise: str,
        wall: Callable[[], datetime],
    ) -> None:
        self._directory = directory
        self._file = file
        self._keys = keys
        self._interfaces = interfaces
        self._default_advertise = default_advertise
        self._wall = wall

    async def restore(self, backup: Backup, wanted: RestoreRequest) -> tuple[NodeState, Restored]:
        """Write the swarm of a backup, with this node as the manager that made it.

        Raises:
            InvalidArgument: the backup is damaged, an address does not do.
            OSError: the disk refused.
        """
        former = node_files.state_of(backup.items)
        place = recovery.place_of(former, wanted, self._default_advertise, await self._interfaces())
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        state = await recovery.restore(backup, self._directory, place, keys=self._keys, wall=self._wall)
        await asyncio.to_thread(state_file.write, self._file, state)
        head = backup.head
        told = Restored(
            node_id=state.node_id,
            cluster_id=state.cluster_id,
            advertise_addr=state.advertise_addr,
            former_addr=former.advertise_addr,
            revision=head.revision,
            time=head.time,
            counts=head.counts,
        )
        return state, told

    async def place(self, state: NodeState, request: InitRequest) -> NodeState:
        """Where ``--force-new-cluster`` puts the node. Raises InvalidArgument."""
        wanted = RestoreRequest(
            listen_addr="" if request.listen_addr == DEFAULT_LISTEN_ADDR else request.listen_addr,
            advertise_addr=request.advertise_addr,
            data_path_addr=request.data_path_addr,
        )
        return recovery.place_of(state, wanted, self._default_advertise, await self._interfaces())

    async def go_on_alone(self, place: NodeState, salvage: Callable[[], Awaitable[None]]) -> NodeState:
        """The swarm with this manager alone, at its place. ``salvage`` gets the state out of several managers' etcd.

        Raises:
            EnxameError, OSError: the state is damaged, or cannot be had without the others.
        """
        if pointers.read(self._directory).kind != "sqlite":
            await salvage()
        after = await recovery.take_over(self._directory, place, keys=self._keys, wall=self._wall)
        await asyncio.to_thread(state_file.write, self._file, after)
        return after

    async def follow_machine(self, state: NodeState) -> NodeState:
        """The node where its machine is now; a single manager tells its swarm at once, one of several when it can.

        Raises:
            EnxameError, OSError: the state is damaged, or the disk refused.
        """
        if state.role != "manager":
            return state
        try:
            place = recovery.moved_to(state, await self._interfaces())
        except (EnxameError, TimeoutError) as error:
            log.warning("it is not known whether this machine is still at %s: %s", state.advertise_addr, error)
            return state
        if place is None:
            return state
        log.warning("this machine is not at %s any more but at %s", state.advertise_addr, place.advertise_addr)
        if pointers.read(self._directory).kind == "sqlite":
            after = await recovery.take_over(self._directory, place, keys=self._keys, wall=self._wall)
        else:
            after = replace(place, moved=True)
        await asyncio.to_thread(state_file.write, self._file, after)
        return after
