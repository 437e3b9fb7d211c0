"""One attempt to join a swarm: what it was asked for, and that it goes on when whoever asked no longer waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from msgspec.structs import replace

from enxame.errors import InvalidArgument, Unavailable
from enxame.membership import addresses
from enxame.membership.addresses import Interface, host_of
from enxame.membership.founding import availability_of
from enxame.membership.joining import Admitted, Wish
from enxame.membership.state_file import NodeState
from enxame.model.cluster import JoinRequest
from enxame.security.tokens import JoinToken, parse_join_token

__all__ = ["JOIN_DEADLINE", "JOIN_TIMEOUT", "Invitation", "JoinAttempt", "Place"]

#: How long whoever asks waits at most: seconds.
JOIN_DEADLINE: Final = 20.0
JOIN_TIMEOUT: Final = (
    "Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the "
    '"docker info" command to see the current swarm status of your node.'
)


@dataclass(frozen=True, slots=True)
class Invitation:
    """Which managers are asked, and by what right."""

    remotes: list[str]
    token: JoinToken

    @classmethod
    def of(cls, request: JoinRequest) -> Self:
        """What a request invites to. Raises InvalidArgument."""
        if not request.remote_addrs:
            raise InvalidArgument("at least 1 RemoteAddr is required to join")
        remotes = [addresses.remote_address(text) for text in request.remote_addrs]
        return cls(remotes, parse_join_token(request.join_token))


@dataclass(frozen=True, slots=True)
class Place:
    """Where the node is to be found. ``advertise`` is empty when that is where the manager sees it."""

    availability: str
    listen: str
    advertise: str
    data_path: str

    @classmethod
    def of(cls, request: JoinRequest, interfaces: Sequence[Interface]) -> Self:
        """What a request says of this machine. Raises InvalidArgument."""
        return cls(
            availability_of(request.availability),
            str(addresses.listen_address(request.listen_addr, interfaces)),
            addresses.given_advertise_address(request.advertise_addr, interfaces),
            addresses.data_path_address(request.data_path_addr, interfaces),
        )

    def wish(self, token: JoinToken, manager_trouble: str) -> Wish:
        """What is asked of the managers."""
        return Wish(token, self.availability, self.advertise, manager_trouble)

    def state(self, admitted: Admitted, interfaces: Sequence[Interface]) -> NodeState:
        """The node as it has been taken up."""
        answer = admitted.certificate
        state = NodeState(
            node_id=answer.node_id,
            cluster_id=answer.cluster_id,
            role=answer.role,
            listen_addr=self.listen,
            advertise_addr=self.advertise or f"{admitted.local_address}:{addresses.DEFAULT_PORT}",
            data_path_addr=self.data_path,
            managers=list(dict.fromkeys([*answer.managers, admitted.remote_address])),
        )
        return replace(state, interface=addresses.interface_of(host_of(state.advertise_addr), interfaces))


class JoinAttempt:
    """``work`` joins; ``ended`` is called with what it failed with; with None when it has joined or was given up."""

    def __init__(
        self, remotes: list[str], work: Coroutine[Any, Any, None], ended: Callable[[BaseException | None], None]
    ) -> None:
        self.remotes = remotes
        self._ended = ended
        self._task = asyncio.get_running_loop().create_task(work, name="join")
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._ended(None if task.cancelled() else task.exception())

    async def wait(self) -> None:
        """Wait until it has ended, somehow. Raises Unavailable when it goes on, or was given up."""
        await asyncio.wait({self._task}, timeout=JOIN_DEADLINE)
        if not self._task.done():
            raise Unavailable(JOIN_TIMEOUT)
        if self._task.cancelled():
            raise Unavailable("the node left the swarm before it had joined")

    def result(self) -> None:
        """Raises what it failed with."""
        self._task.result()

    async def give_up(self) -> None:
        """End it."""
        self._task.cancel()
        await asyncio.wait({self._task})
