"""What a node says of itself."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from enxame.membership.self_description import Shown, described
from enxame.membership.state_file import NodeState
from enxame.model.cluster import TLSInfo
from enxame.model.node import Node, NodeDescription, NodeStatus

MACHINE = NodeDescription(hostname="a")
SHOWN = Shown(TLSInfo(trust_root="R"), "1f")


@pytest.mark.parametrize(
    ("given", "advertised", "expected"),
    [
        ("10.9.0.1", "10.0.0.1:2377", "10.9.0.1"),
        ("", "10.0.0.1:2377", "10.0.0.1"),
        ("", "[fd00::1]:2377", "fd00::1"),
    ],
)
def test_packets_of_containers_go_to_the_address_that_was_given_else_to_the_advertised_one(
    given: str, advertised: str, expected: str
) -> None:
    told = described(MACHINE, NodeState(advertise_addr=advertised, data_path_addr=given), SHOWN)
    assert told == replace(MACHINE, data_path_addr=expected, tls_info=SHOWN.tls_info, certificate_serial="1f")


def test_a_node_that_told_no_address_for_packets_is_reached_where_the_manager_sees_it() -> None:
    assert Node(description=MACHINE, status=NodeStatus(addr="10.0.0.7")).data_path_addr == "10.0.0.7"
