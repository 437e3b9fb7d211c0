"""This node's relation to a swarm, and everything that runs because of it."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from enxame.errors import Conflict, EnxameError, InvalidArgument, Unavailable, Unimplemented
from enxame.manager.leadership import LeaderLocator
from enxame.manager.manager import Manager
from enxame.membership import addresses, certificate_files, founding, joining, state_file
from enxame.membership.addresses import Interface, host_of
from enxame.membership.founding import availability_of
from enxame.membership.state_file import NodeState
from enxame.membership.worker_parts import WORKER
from enxame.model.cluster import InitRequest, JoinRequest, PeerNode, SwarmInfo
from enxame.security.tokens import JoinToken, parse_join_token

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

JOIN_TIMEOUT: Final = (
    "Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the "
    '"docker info" command to see the current swarm status of your node.'
)

STATE_FILE: Final = "node.json"

#: Longest wait for a swarm to come up or to end: seconds (moby's swarmConnectTimeout).
START_DEADLINE: Final = 20.0
LEAVE_DEADLINE: Final = 60.0
JOIN_DEADLINE: Final = 20.0


class SwarmParts(Protocol):
    """What runs on this node while it is in a swarm."""

    @property
    def manager(self) -> Manager:
        """The manager's side."""
        ...

    @property
    def leadership(self) -> LeaderLocator:
        """Who leads."""
        ...

    def info(self) -> SwarmInfo:
        """What ``GET /info`` says of the swarm."""
        ...

    async def start(self) -> None:
        """Load the state, take up tasks, begin to lead or to look for a manager."""
        ...

    async def settled(self) -> None:
        """Wait until the swarm has taken this node. Raises EnxameError when it was refused."""
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
        rng: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._file = directory / STATE_FILE
        self._build = build
        self._interfaces = interfaces
        self._default_advertise = default_advertise
        self._founder = founder
        self._sweep = sweep
        self._rng = rng
        self._joining: asyncio.Task[None] | None = None
        self._joining_by: list[str] = []
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
        await self._end_joining()
        async with self._changing:
            if self._parts is not None:
                await self._parts.stop()
                self._parts = None

    @property
    def manager(self) -> Manager:
        """The manager's side. Raises Unavailable with Swarm's text when this node is no manager."""
        if self._parts is None:
            raise self._no_manager()
        return self._parts.manager

    @property
    def leadership(self) -> LeaderLocator:
        """Who leads the swarm. Raises as :attr:`manager`."""
        if self._parts is None:
            raise self._no_manager()
        return self._parts.leadership

    def _no_manager(self) -> Unavailable:
        return Unavailable(self._error or (WORKER if self._joining is not None else NOT_IN_SWARM))

    def info(self) -> SwarmInfo:
        """The ``Swarm`` block of ``GET /info``."""
        if self._parts is not None:
            return self._parts.info()
        state = self._state or NodeState()
        waiting = self._state is not None or self._joining is not None
        return SwarmInfo(
            node_id=state.node_id,
            node_addr=host_of(state.advertise_addr),
            local_node_state="error" if self._error else "pending" if waiting else "inactive",
            error=self._error,
            remote_managers=[PeerNode(addr=address) for address in self._joining_by] if self._joining else None,
        )

    async def init(self, request: InitRequest) -> str:
        """Found a swarm; returns this node's id.

        Raises:
            Unavailable: already in one.
            InvalidArgument: an address or setting that does not do.
        """
        async with self._changing:
            if self._in_swarm:
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
        """Join the swarm of another machine; returns when one of its managers has taken this node up.

        Raises:
            InvalidArgument: a malformed request, or a token that the managers do not know.
            Unavailable: already in a swarm, no manager answered clearly, or none did in time: then it goes on trying.
        """
        if self._in_swarm:
            raise Unavailable(ALREADY_IN_SWARM)
        if not request.remote_addrs:
            raise InvalidArgument("at least 1 RemoteAddr is required to join")
        remotes = [addresses.remote_address(text) for text in request.remote_addrs]
        token = parse_join_token(request.join_token)
        availability = availability_of(request.availability)
        interfaces = await self._interfaces()
        addresses.listen_address(request.listen_addr, interfaces)
        advertise = addresses.given_advertise_address(request.advertise_addr, interfaces)
        data_path = addresses.data_path_address(request.data_path_addr, interfaces)
        if self._in_swarm:
            raise Unavailable(ALREADY_IN_SWARM)
        self._joining_by = remotes
        attempt = asyncio.get_running_loop().create_task(
            self._join(remotes, token, availability, advertise, data_path), name="join"
        )
        self._joining = attempt
        attempt.add_done_callback(self._joined)
        await asyncio.wait({attempt}, timeout=JOIN_DEADLINE)
        if not attempt.done():
            raise Unavailable(JOIN_TIMEOUT)
        if attempt.cancelled():
            raise Unavailable("the node left the swarm before it had joined")
        self._error = ""
        attempt.result()

    @property
    def _in_swarm(self) -> bool:
        return self._state is not None or bool(self._error) or self._joining is not None

    async def _join(
        self, remotes: list[str], token: JoinToken, availability: str, advertise: str, data_path: str
    ) -> None:
        admitted = await joining.join(remotes, token, availability, self._rng)
        answer = admitted.certificate
        known = [*answer.managers, admitted.remote_address]
        state = NodeState(
            node_id=answer.node_id,
            cluster_id=answer.cluster_id,
            role=answer.role,
            advertise_addr=advertise or f"{admitted.local_address}:{addresses.DEFAULT_PORT}",
            data_path_addr=data_path,
            managers=list(dict.fromkeys(known)),
        )
        async with self._changing:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                await asyncio.to_thread(certificate_files.write, self._directory, admitted.identity)
                await asyncio.to_thread(state_file.write, self._file, state)
                await self._run(state)
            except BaseException:
                self._state = None
                await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)
                raise
            log.info("joined the swarm %s as node %s (%s)", state.cluster_id, state.node_id, state.role)
            parts = self._parts
        if parts is not None:
            await parts.settled()

    def _joined(self, attempt: asyncio.Task[None]) -> None:
        """The attempt ended. What it failed with is kept for those who ask later."""
        self._joining = None
        if not attempt.cancelled() and (error := attempt.exception()) is not None and self._state is None:
            self._error = str(error)
            log.error("joining failed: %s", error)

    async def _end_joining(self) -> None:
        if self._joining is not None:
            self._joining.cancel()
            await asyncio.wait({self._joining})

    async def unlock(self, key: str) -> None:  # noqa: ARG002  # the API's shape; a swarm of one is never locked
        """Give a locked manager its key."""
        if self._state is None:
            raise Unavailable(NOT_IN_SWARM)
        raise Conflict("swarm is not locked")

    async def leave(self, force: bool) -> None:
        """Leave, and with the last manager's leaving end, the swarm: tasks, networks and state go."""
        if not self._in_swarm:
            raise Unavailable("This node is not part of a swarm")
        # A state that cannot be read may be a manager's.
        manages = self._state.role == "manager" if self._state is not None else self._file.exists()
        if not force and manages:
            raise Unavailable(LAST_MANAGER)
        await self._end_joining()
        async with self._changing:
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
