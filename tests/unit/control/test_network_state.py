from __future__ import annotations

import pytest

from enxame.control.network_state import is_made_by_nodes, is_node_local, is_on_the_wire
from enxame.model.cluster import Driver
from enxame.model.network import Network, NetworkSpec


@pytest.mark.parametrize(
    ("name", "driver", "scope", "local", "made", "wire"),
    [
        ("app", "overlay", "swarm", False, False, False),
        ("app", "", "", False, False, False),
        ("host", "host", "local", True, False, False),
        ("bridge", "bridge", "local", True, False, False),
        ("mine", "bridge", "swarm", True, True, False),
        ("mine", "macvlan", "swarm", True, True, True),
    ],
)
def test_whose_a_network_is(name: str, driver: str, scope: str, local: bool, made: bool, wire: bool) -> None:
    network = Network(spec=NetworkSpec(name=name, driver_configuration=Driver(name=driver), scope=scope))
    assert (is_node_local(network), is_made_by_nodes(network), is_on_the_wire(network)) == (local, made, wire)
