"""What :mod:`enxame.membership.membership` wants of the parts that run on a node in a swarm, whatever its role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from enxame.errors import Unavailable
from enxame.manager.leadership import LeaderLocator
from enxame.manager.manager import Manager
from enxame.model.cluster import SwarmInfo
from enxame.security.tokens import JoinToken

__all__ = ["WORKER", "NodeRemoved", "SwarmParts"]

WORKER: Final = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this "
    "command on a manager node or promote the current node to a manager."
)


class NodeRemoved(Unavailable):
    """The swarm's managers do not know this node any more."""


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

    def leave_warning(self) -> str:
        """Why a user should think twice before this node leaves; empty when there is no reason."""
        ...

    async def stop(self) -> None:
        """Stop; containers go on."""
        ...

    async def leave(self, patience: float) -> None:
        """Remove this node's tasks, which may take so many seconds to stop, and networks, then stop."""
        ...

    def is_of(self, token: JoinToken) -> bool:
        """Whether a join token is of this node's swarm."""
        ...

    async def in_touch(self) -> bool:
        """Whether the swarm is there for this node, or will not be."""
        ...

    async def look_at(self, addresses: Sequence[str]) -> None:
        """The swarm's managers may be found there; returns when one of them took this node up.

        Raises:
            NodeRemoved: they do not know it.
            EnxameError: it was refused for another reason.
        """
        ...
