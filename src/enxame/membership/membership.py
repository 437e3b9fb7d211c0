"""This node's relation to a swarm, and everything that runs because of it."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from enxame.errors import Conflict, EnxameError, InvalidArgument, Unavailable, Unimplemented
from enxame.manager.manager import Manager
from enxame.membership import addresses, founding, state_file
from enxame.membership.addresses import Interface
from enxame.membership.state_file import NodeState
from enxame.model.cluster import Cluster, InitRequest, JoinRequest, PeerNode, SwarmInfo
from enxame.model.node import Node

log = logging.getLogger(__name__)

NOT_IN_SWARM: Final = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
ALREADY_IN_SWARM: Final = (
    'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
)
LAST_MANAGER: Final = (
    "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager "
    "erases all current state of the swarm. Use `--force` to ignore this message."
)

#: Longest wait for a swarm to come up or to end: seconds (moby's swarmConnectTimeout).
START_DEADLINE: Final = 20.0
LEAVE_DEADLINE: Final = 60.0


class SwarmParts(Protocol):
    """What runs on this node while it is in a swarm."""

    @property
    def manager(self) -> Manager:
        """The manager's side."""
        ...

    async def start(self) -> None:
        """Load the state, take up tasks, begin to lead."""
        ...

    async def stop(self) -> None:
        """Stop; containers go on."""
        ...

    async def leave(self) -> None:
        """Remove this node's tasks and networks, then stop."""
        ...


class Membership:
    """``build`` makes the parts for a state; ``interfaces`` lists this machine's addresses when asked;
    ``sweep`` removes what tasks left on a node that is in no swarm.
    """

    def __init__(
        self,
        directory: Path,
        *,
        build: Callable[[NodeState], SwarmParts],
        interfaces: Callable[[], Awaitable[Sequence[Interface]]],
        default_advertise: str = "",
        founder: founding.Founder,
        sweep: Callable[[], Awaitable[None]],
    ) -> None:
        self._directory = directory
        self._file = directory / "node.json"
        self._build = build
        self._interfaces = interfaces
        self._default_advertise = default_advertise
        self._founder = founder
        self._sweep = sweep
        self._state: NodeState | None = None
        self._parts: SwarmParts | None = None
        self._error = ""
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Take up the swarm that this node was in. A state that cannot be loaded is shown, not forgotten."""
        try:
            self._state = state_file.read(self._file)
            if self._state is None:
                # What a founding that was cut off left behind: node.json is written last.
                await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)
                await self._sweep()
                return
            await self._run(self._state)
        except (EnxameError, OSError, TimeoutError) as error:
            self._error = str(error) or "timeout while the swarm's state was loaded"
            log.error("this node's swarm cannot be taken up: %s", self._error)

    async def stop(self) -> None:
        """The daemon ends; containers go on."""
        async with self._changing:
            if self._parts is not None:
                await self._parts.stop()
                self._parts = None

    @property
    def manager(self) -> Manager:
        """The manager's side. Raises Unavailable with Swarm's text when this node is no manager."""
        if self._parts is None:
            raise Unavailable(self._error or NOT_IN_SWARM)
        return self._parts.manager

    def info(self) -> SwarmInfo:
        """The ``Swarm`` block of ``GET /info``."""
        state = self._state
        if state is None:
            return SwarmInfo(local_node_state="error" if self._error else "inactive", error=self._error)
        if self._parts is None:
            return SwarmInfo(
                node_id=state.node_id,
                node_addr=_host(state.advertise_addr),
                local_node_state="error" if self._error else "pending",
                error=self._error,
            )
        view = self._parts.manager.store.view
        nodes = list(view.all(Node))
        managers = [node for node in nodes if node.manager_status is not None]
        cluster = next(iter(view.all(Cluster)), None)
        return SwarmInfo(
            node_id=state.node_id,
            node_addr=_host(state.advertise_addr),
            local_node_state="active",
            control_available=True,
            remote_managers=[
                PeerNode(node_id=node.id, addr=node.manager_status.addr) for node in managers if node.manager_status
            ],
            nodes=len(nodes),
            managers=len(managers),
            cluster=founding.public(cluster) if cluster else None,
        )

    async def init(self, request: InitRequest) -> str:
        """Found a swarm; returns this node's id.

        Raises:
            Unavailable: already in one.
            InvalidArgument: an address or setting that does not do.
        """
        async with self._changing:
            if self._state is not None or self._error:
                if request.force_new_cluster:
                    raise Unimplemented("--force-new-cluster is not supported by this daemon yet: it has one manager")
                raise Unavailable(ALREADY_IN_SWARM)
            interfaces = await self._interfaces()
            listen = addresses.listen_address(request.listen_addr, interfaces)
            advertise = addresses.advertise_address(request.advertise_addr, self._default_advertise, listen, interfaces)
            data_path = addresses.data_path_address(request.data_path_addr, interfaces)
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                state = await self._founder.found(request, str(listen), str(advertise), data_path, self._directory)
                await asyncio.to_thread(state_file.write, self._file, state)
                await self._run(state)
            except BaseException:
                self._state = None
                await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)
                raise
            log.info("swarm founded: cluster %s, node %s at %s", state.cluster_id, state.node_id, state.advertise_addr)
            return state.node_id

    async def join(self, request: JoinRequest) -> None:
        """Join another swarm: the daemon does not speak with other machines yet."""
        if self._state is not None or self._error:
            raise Unavailable(ALREADY_IN_SWARM)
        if not request.remote_addrs:
            raise InvalidArgument("at least 1 RemoteAddr is required to join")
        raise Unimplemented("joining the swarm of another machine is not supported by this daemon yet")

    async def unlock(self, key: str) -> None:  # noqa: ARG002  # the API's shape; a swarm of one is never locked
        """Give a locked manager its key."""
        if self._state is None:
            raise Unavailable(NOT_IN_SWARM)
        raise Conflict("swarm is not locked")

    async def leave(self, force: bool) -> None:
        """Leave, and with the last manager's leaving end, the swarm: tasks, networks and state go."""
        async with self._changing:
            if self._state is None and not self._error:
                raise Unavailable("This node is not part of a swarm")
            if not force:
                raise Unavailable(LAST_MANAGER)
            # From here on a crash leaves a node outside of any swarm; leftovers are swept at the next start.
            self._file.unlink(missing_ok=True)
            parts, self._parts, self._state, self._error = self._parts, None, None, ""
            if parts is not None:
                async with asyncio.timeout(LEAVE_DEADLINE):
                    await parts.leave()
            await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)
            log.info("this node left its swarm")

    async def _run(self, state: NodeState) -> None:
        parts = self._build(state)
        try:
            async with asyncio.timeout(START_DEADLINE):
                await parts.start()
        except BaseException:
            await parts.stop()
            raise
        self._state, self._parts, self._error = state, parts, ""


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")
