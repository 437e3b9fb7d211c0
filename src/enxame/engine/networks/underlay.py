"""What carries the swarm's networks between this machine and the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from enxame.model.network import NetworkResource
from enxame.network import xfrm
from enxame.network.link_names import TUNNEL_PREFIX
from enxame.network.rtnetlink import Address
from enxame.network.vxlan import OVERHEAD, Tunnel, node_mac
from enxame.network.xfrm import Key

VXLAN_OPTION: Final = "com.docker.network.driver.overlay.vxlanid_list"
_USUAL_MTU: Final = 1500


def is_encrypted(resource: NetworkResource) -> bool:
    """Whether a network's packets between machines are."""
    return resource.driver == "overlay" and resource.options.get("encrypted", "false").lower() not in ("false", "0")


@dataclass(frozen=True, slots=True)
class Underlay:
    """``address`` is where other machines send packets for containers of this one; ``local``: a link of this machine
    has it, else something translates it on the way. ``mtu`` is that link's.
    """

    node_id: str
    address: Address
    port: int
    local: bool = True
    mtu: int = _USUAL_MTU
    #: Of encrypted networks, oldest first.
    keys: tuple[Key, ...] = ()

    def inner_mtu(self, resource: NetworkResource) -> int:
        """The largest packet of a container."""
        return self.mtu - OVERHEAD[self.address.version] - (xfrm.OVERHEAD if is_encrypted(resource) else 0)

    @property
    def mac(self) -> bytes:
        """The link address of this machine's bridges of swarm networks."""
        return node_mac(self.node_id)

    def tunnel(self, resource: NetworkResource) -> Tunnel | None:
        """The tunnel of a network; None when the manager gave it no VXLAN id."""
        vni = resource.options.get(VXLAN_OPTION, "").partition(",")[0]
        if not vni.isdigit():
            return None
        local = self.address if self.local else None
        return Tunnel(f"{TUNNEL_PREFIX}{resource.id[:10]}", int(vni), self.port, local)
