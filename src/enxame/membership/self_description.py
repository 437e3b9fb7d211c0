"""What a node tells the managers about itself: its machine, and its place in the swarm."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from enxame.membership.addresses import host_of
from enxame.membership.state_file import NodeState
from enxame.model.cluster import TLSInfo
from enxame.model.node import NodeDescription

__all__ = ["Shown", "described"]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a node shows of its certificate: whom it trusts and who issued it, and its serial number (hex)."""

    tls_info: TLSInfo = field(default_factory=TLSInfo)
    serial: str = ""


def described(machine: NodeDescription, state: NodeState, shown: Shown) -> NodeDescription:
    """The machine's description with where the packets of its containers go, and what it shows of its certificate."""
    return replace(
        machine,
        data_path_addr=state.data_path_addr or host_of(state.advertise_addr),
        tls_info=shown.tls_info,
        certificate_serial=shown.serial,
    )
