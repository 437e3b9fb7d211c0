"""What a node tells the managers about itself: its machine, and its place in the swarm."""

from __future__ import annotations

from msgspec.structs import replace

from enxame.membership.addresses import host_of
from enxame.membership.state_file import NodeState
from enxame.model.cluster import TLSInfo
from enxame.model.node import NodeDescription

__all__ = ["described"]


def described(machine: NodeDescription, state: NodeState, trusts: TLSInfo) -> NodeDescription:
    """The machine's description with where the packets of its containers go, and whom it trusts."""
    return replace(machine, data_path_addr=state.data_path_addr or host_of(state.advertise_addr), tls_info=trusts)
