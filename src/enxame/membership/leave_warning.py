"""What a user is told who lets a manager leave without force (moby's daemon/cluster/swarm.go)."""

from __future__ import annotations

from typing import Final

__all__ = ["leave_warning"]

_MANAGER: Final = "You are attempting to leave the swarm on a node that is participating as a manager. "
_LAST: Final = "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message."
_LOST: Final = (
    "The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. "
    "Use `--force` to suppress this message."
)


def leave_warning(reachable: int, unreachable: int) -> str:
    """``reachable`` managers, this one among them; none when it is not known who can be reached."""
    if reachable == 1 and unreachable == 0:
        return _MANAGER + _LAST
    counts = ""
    if reachable and reachable - 2 <= unreachable:
        counts = (
            f"Removing this node leaves {reachable - 1} managers out of {reachable + unreachable}. "
            "Without a Raft quorum your swarm will be inaccessible. "
        )
    return _MANAGER + counts + _LOST
