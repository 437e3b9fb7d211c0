from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from enxame.engine.networks.doors import Doors, Places
from enxame.engine.networks.registry import ActiveNetwork
from enxame.model.container import EndpointSettings
from enxame.model.network import NetworkResource
from enxame.network.answer_rules import Door, install
from enxame.network.attachments import Attachment
from enxame.network.bridge import Bridge
from enxame.network.namespace_rules import transaction_of

PATH = Path("/run/netns/a")


def place(number: int, *, ingress: bool = False, default: bool = False, default6: bool = False) -> Places:
    address = IPv4Interface(f"10.0.{number}.5/24")
    link = Attachment(
        f"enxv-{number}",
        f"eth{number}",
        Bridge(f"enx-{number}", address),
        address,
        default=default,
        address6=IPv6Interface(f"fd00:{number}::5/64"),
        default6=default6,
    )
    network = ActiveNetwork(NetworkResource(name=f"n{number}", id=str(number), ingress=ingress))
    return [(network, EndpointSettings(), link)]


def test_datagrams_get_the_address_of_the_default_route_of_their_version() -> None:
    doors = Doors()
    mesh, back, both = place(0, ingress=True, default6=True), place(1, default=True), place(2, default6=True)
    assert doors.connected("a", PATH, back) == []
    (change,) = doors.connected("a", PATH, [*mesh, *back])
    back_address = back[0][2].address.ip
    assert change.transaction == transaction_of(install(Door("eth0", (back_address,))))
    assert len(change.routes) == 1
    mesh = place(0, ingress=True)
    (change,) = doors.connected("a", PATH, [*mesh, *back, *both])
    address6 = both[0][2].address6
    assert address6 is not None
    assert back_address.packed in change.transaction
    assert address6.ip.packed in change.transaction
    assert len(change.routes) == 3  # one goes, two come
    assert doors.connected("a", PATH, [*mesh, *back, *both]) == []
    (change,) = doors.connected("a", PATH, both)
    assert not change.tracks
    assert len(change.routes) == 2
