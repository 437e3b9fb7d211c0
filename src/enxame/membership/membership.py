"""This node's relation to a swarm, and everything that runs because of it."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from enxame.backup import files
from enxame.backup.files import Secret
from enxame.errors import Conflict, EnxameError, Unavailable
from enxame.manager.leadership import LeaderLocator
from enxame.manager.manager import Manager
from enxame.membership import addresses, certificate_files, founding, joining, state_file
from enxame.membership.addresses import Interface, host_of
from enxame.membership.join_attempt import JOIN_DEADLINE, JOIN_TIMEOUT, Invitation, JoinAttempt, Place
from enxame.membership.lead_or_follow import within
from enxame.membership.leave_warning import leave_warning
from enxame.membership.manager_parts import ManagerParts
from enxame.membership.member_plan import manager_trouble
from enxame.membership.rescue import Rescue
from enxame.membership.state_file import NodeState
from enxame.membership.state_keys import Locked, StateKeys
from enxame.membership.swarm_parts import WORKER, NodeRemoved, SwarmParts
from enxame.model.backup import Restored, RestoreRequest
from enxame.model.cluster import InitRequest, JoinRequest, PeerNode, SwarmInfo
from enxame.store import pointer as pointers

log = logging.getLogger(__name__)

NOT_IN_SWARM: Final = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
ALREADY_IN_SWARM: Final = (
    'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
)
LOCKED_LEAVE: Final = "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message."

STATE_FILE: Final = "node.json"

#: Longest wait for a swarm to come up or to end: seconds (moby's swarmConnectTimeout).
START_DEADLINE: Final = 20.0
LEAVE_DEADLINE: Final = 60.0
#: How long the tasks of a node that leaves may take to stop, at most, and when it is forced to: seconds.
STOP_PATIENCE: Final = 40.0
FORCED_PATIENCE: Final = 2.0


class Membership:
    """``build`` makes the parts for a state, which ask for another role by the function that they are given;
    ``interfaces`` lists this machine's addresses when asked;
    ``sweep`` removes what tasks left on a node that is in no swarm.
    """

    def __init__(
        self,
        directory: Path,
        *,
        build: Callable[[NodeState, Callable[[str], None]], SwarmParts],
        interfaces: Callable[[], Awaitable[Sequence[Interface]]],
        default_advertise: str = "",
        founder: founding.Founder,
        keys: StateKeys,
        sweep: Callable[[], Awaitable[None]],
        rng: Callable[[], float],
        wall: Callable[[], datetime],
    ) -> None:
        self._directory = directory
        self._file = directory / STATE_FILE
        self._rescue = Rescue(
            directory,
            self._file,
            keys=keys,
            interfaces=interfaces,
            default_advertise=default_advertise,
            wall=wall,
        )
        self._build = build
        self._interfaces = interfaces
        self._default_advertise = default_advertise
        self._founder = founder
        self._keys = keys
        self._locked = False
        self._sweep = sweep
        self._rng = rng
        self._joining: JoinAttempt | None = None
        self._state: NodeState | None = None
        self._parts: SwarmParts | None = None
        self._error = ""
        self._changing = asyncio.Lock()
        self._switching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up the swarm that this node was in. A state that cannot be loaded is shown, not forgotten."""
        try:
            self._state = state_file.read(self._file)
            if self._state is None:
                # What a founding that was cut off left behind: node.json is written last.
                await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)
                await self._sweep()
                return
            await self._open_keys(self._state)
            self._state = await self._rescue.follow_machine(self._state)
            await self._run(self._state)
        except Locked as locked:
            self._locked = True
            log.warning("%s", locked)
        except (EnxameError, OSError, TimeoutError) as error:
            self._error = str(error) or "timeout while the swarm's state was loaded"
            log.error("this node's swarm cannot be taken up: %s", self._error)

    async def stop(self) -> None:
        """The daemon ends; containers go on."""
        await self._end_joining()
        if self._switching is not None:
            await asyncio.wait({self._switching})
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

    def _no_manager(self) -> EnxameError:
        return (
            Locked()
            if self._locked
            else Unavailable(self._error or (WORKER if self._joining is not None else NOT_IN_SWARM))
        )

    def info(self) -> SwarmInfo:
        """The ``Swarm`` block of ``GET /info``."""
        if self._parts is not None:
            return self._parts.info()
        state = self._state or NodeState()
        return SwarmInfo(
            node_id=state.node_id,
            node_addr=host_of(state.advertise_addr),
            local_node_state=self._waiting_state,
            error=self._error,
            remote_managers=[PeerNode(addr=address) for address in self._joining.remotes] if self._joining else None,
        )

    @property
    def _waiting_state(self) -> str:
        """The state of a node that nothing of the swarm runs on."""
        if self._locked:
            return "locked"
        if self._error:
            return "error"
        return "pending" if self._state is not None or self._joining is not None else "inactive"

    async def init(self, request: InitRequest) -> str:
        """Found a swarm; returns this node's id.

        Raises:
            Unavailable: already in one.
            InvalidArgument: an address or setting that does not do.
        """
        async with self._changing:
            if self._in_swarm:
                if request.force_new_cluster:
                    return await self._go_on_alone(request)
                raise Unavailable(ALREADY_IN_SWARM)
            interfaces = await self._interfaces()
            listen = addresses.listen_address(request.listen_addr, interfaces)
            advertise = addresses.advertise_address(request.advertise_addr, self._default_advertise, listen, interfaces)
            data_path = addresses.data_path_address(request.data_path_addr, interfaces)
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                state = await self._founder.found(request, str(listen), str(advertise), data_path, self._directory)
                state = replace(state, interface=addresses.interface_of(advertise.host, interfaces))
                await asyncio.to_thread(state_file.write, self._file, state)
                await self._run(state)
                if isinstance(self._parts, ManagerParts):
                    await within(START_DEADLINE, self._parts.introduced())
            except BaseException:
                self._state = None
                await self._forget()
                raise
            log.info("swarm founded: cluster %s, node %s at %s", state.cluster_id, state.node_id, state.advertise_addr)
            return state.node_id

    async def restore(self, path: Path, secret: Secret | None, wanted: RestoreRequest) -> Restored:
        """Become the manager that made a backup, with the whole swarm of that time.

        Raises:
            Unavailable: already in a swarm.
            InvalidArgument: the backup is damaged or encrypted with another secret; an address does not do.
        """
        if self._in_swarm:
            raise Unavailable(ALREADY_IN_SWARM)
        backup = await asyncio.to_thread(files.restore, path, secret)
        async with self._changing:
            if self._in_swarm:
                raise Unavailable(ALREADY_IN_SWARM)
            try:
                state, told = await self._rescue.restore(backup, wanted)
                await self._run(state)
            except BaseException:
                self._state = None
                await self._forget()
                raise
        log.info("restored the swarm %s of %s at %s", told.cluster_id, told.time, told.advertise_addr)
        return told

    async def _go_on_alone(self, request: InitRequest) -> str:
        """``--force-new-cluster``: this manager goes on with what it has, without the others."""
        if self._locked:
            raise Locked
        state = await asyncio.to_thread(state_file.read, self._file)
        if state is None or state.role != "manager":
            raise Unavailable(WORKER)
        place = await self._rescue.place(state, request)
        survivor = self._build(state, self._change_role)
        assert isinstance(survivor, ManagerParts)
        parts, self._parts = self._parts, None
        if parts is not None:
            await parts.stop()
        try:
            after = await self._rescue.go_on_alone(place, survivor.salvage)
        except (EnxameError, OSError) as error:
            self._error = str(error)
            raise
        await self._run(after)
        log.warning("the swarm goes on with this manager alone, at %s", after.advertise_addr)
        return after.node_id

    async def join(self, request: JoinRequest) -> None:
        """Join the swarm of another machine; returns when one of its managers has taken this node up. A node that has
        lost its managers finds those of its own swarm again by it, and stays who it is.

        Raises:
            InvalidArgument: a malformed request, or a token that the managers do not know.
            Unavailable: already in a swarm, no manager answered clearly, or none did in time: then it goes on trying.
        """
        parts = self._parts
        if self._in_swarm and parts is None:
            raise Unavailable(ALREADY_IN_SWARM)
        invitation = Invitation.of(request)
        if parts is not None and await self._find_again(parts, invitation):
            return
        place = Place.of(request, await self._interfaces())
        if self._in_swarm:
            raise Unavailable(ALREADY_IN_SWARM)
        attempt = self._joining = JoinAttempt(invitation.remotes, self._join(invitation, place), self._joined)
        await attempt.wait()
        self._error = ""
        attempt.result()

    async def _find_again(self, node: SwarmParts, invitation: Invitation) -> bool:
        """A node whose swarm's managers are elsewhere now. False: they do not know it any more, and it has left.

        Raises:
            Unavailable: it has a manager, or the token is of another swarm; or none of them took it up in time.
        """
        if not node.is_of(invitation.token) or await node.in_touch():
            raise Unavailable(ALREADY_IN_SWARM)
        try:
            async with asyncio.timeout(JOIN_DEADLINE):
                await node.look_at(invitation.remotes)
        except TimeoutError:
            raise Unavailable(JOIN_TIMEOUT) from None
        except NodeRemoved:
            await self.leave(force=True)
            return False
        return True

    @property
    def _in_swarm(self) -> bool:
        return self._state is not None or bool(self._error) or self._joining is not None

    async def _join(self, invitation: Invitation, place: Place) -> None:
        wish = place.wish(invitation.token, await manager_trouble())
        admitted = await joining.join(invitation.remotes, wish, self._rng)
        state = place.state(admitted, await self._interfaces())
        async with self._changing:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                await asyncio.to_thread(certificate_files.write, self._directory, admitted.identity)
                if state.role == "manager":
                    await asyncio.to_thread(pointers.write, self._directory, pointers.NONE)
                await asyncio.to_thread(state_file.write, self._file, state)
                await self._run(state)
            except BaseException:
                self._state = None
                await self._forget()
                raise
            log.info("joined the swarm %s as node %s (%s)", state.cluster_id, state.node_id, state.role)
            parts = self._parts
        if parts is not None:
            await parts.settled()

    def _joined(self, error: BaseException | None) -> None:
        """The attempt ended. What it failed with is kept for those who ask later."""
        self._joining = None
        if error is not None and self._state is None:
            self._error = str(error)
            log.error("joining failed: %s", error)

    async def _end_joining(self) -> None:
        if self._joining is not None:
            await self._joining.give_up()

    async def unlock(self, key: str) -> None:
        """Give a locked manager its key, and take the swarm up.

        Raises:
            Conflict: it is not locked.
            InvalidArgument, Unauthenticated: it is no key, or another one.
            Unavailable: this node is no manager.
        """
        if not self._locked:
            if self._parts is None:
                raise self._no_manager()
            _ = self._parts.leadership
            raise Conflict("swarm is not locked")
        async with self._changing:
            state = self._state
            if not self._locked or state is None:
                raise Conflict("swarm is not locked")
            await asyncio.to_thread(self._keys.unlock, key)
            self._locked = False
            try:
                state = await self._rescue.follow_machine(state)
                await self._run(state)
            except (EnxameError, OSError, TimeoutError) as error:
                self._error = str(error) or "timeout while the swarm's state was loaded"
                log.error("this node's swarm cannot be taken up: %s", self._error)
                raise Unavailable(f"swarm component could not be started: {self._error}") from error

    async def _open_keys(self, state: NodeState) -> None:
        """A manager needs its keys; one that has become a worker gives them up. Raises Locked, EnxameError."""
        if not self._keys.known and not await asyncio.to_thread(self._keys.load):
            return
        if state.role == "worker":
            own = await asyncio.to_thread(certificate_files.read, self._directory, self._keys.any_passphrase)
            if own is not None:
                await asyncio.to_thread(certificate_files.write, self._directory, own)
            await asyncio.to_thread(self._keys.remove)

    async def leave(self, force: bool) -> None:
        """Leave, and with the last manager's leaving end, the swarm: tasks, networks and state go."""
        if not self._in_swarm:
            raise Unavailable("This node is not part of a swarm")
        # A state that cannot be read may be a manager's.
        manages = self._state.role == "manager" if self._state is not None else self._file.exists()
        if not force and self._locked:
            raise Unavailable(LOCKED_LEAVE)
        if not force and manages:
            raise Unavailable(self._parts.leave_warning() if self._parts is not None else leave_warning(1, 0))
        await self._end_joining()
        async with self._changing:
            # From here on a crash leaves a node outside of any swarm; leftovers are swept at the next start.
            self._file.unlink(missing_ok=True)
            parts, self._parts, self._state, self._error, self._locked = self._parts, None, None, "", False
            if parts is not None:
                async with asyncio.timeout(LEAVE_DEADLINE):
                    await parts.leave(FORCED_PATIENCE if force else STOP_PATIENCE)
            else:
                await self._sweep()
            await self._forget()
            log.info("this node left its swarm")

    async def _forget(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)
        await asyncio.to_thread(self._keys.remove)

    def _change_role(self, role: str) -> None:
        """The swarm gave this node another role; its certificate says so already."""
        if self._switching is None or self._switching.done():
            self._switching = asyncio.get_running_loop().create_task(self._switch(role), name="change of role")

    async def _switch(self, role: str) -> None:
        async with self._changing:
            before, parts = await asyncio.to_thread(state_file.read, self._file), self._parts
            if before is None or parts is None:
                return
            if before.role == role:
                if role == "manager":
                    await self._start_over(before, parts)
                return
            log.info("this node is to be a %s now", role)
            after = replace(before, role=role)
            if role == "manager":
                await asyncio.to_thread(pointers.write, self._directory, pointers.NONE)
            await asyncio.to_thread(state_file.write, self._file, after)
            await parts.stop()
            if role == "worker":
                await asyncio.to_thread(pointers.forget, self._directory)
            try:
                await self._run(after)
            except (EnxameError, OSError, TimeoutError) as error:
                self._parts, self._error = None, str(error)
                log.error("this node cannot work as a %s: %s", role, error)

    async def _start_over(self, state: NodeState, parts: SwarmParts) -> None:
        """The swarm was recovered elsewhere: give up what this manager has, and ask for a part of that."""
        await parts.stop()
        former = pointers.read(self._directory)
        await asyncio.to_thread(pointers.write, self._directory, replace(pointers.NONE, moves=former.moves))
        try:
            await self._run(state)
        except (EnxameError, OSError, TimeoutError) as error:
            self._parts, self._error = None, str(error)
            log.error("this manager cannot take part in the recovered swarm: %s", error)

    async def _run(self, state: NodeState) -> None:
        await self._open_keys(state)
        parts = self._build(state, self._change_role)
        try:
            async with asyncio.timeout(START_DEADLINE):
                await parts.start()
        except BaseException:
            await parts.stop()
            raise
        self._state, self._parts, self._error = state, parts, ""
