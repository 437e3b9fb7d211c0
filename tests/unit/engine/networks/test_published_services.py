from __future__ import annotations

import pytest

from enxame.engine.networks.published_services import PublishedServices
from enxame.engine.networks.tables import KnownTable
from enxame.model.dispatch import NetworkEndpoint, NetworkService
from enxame.model.service import PortConfig


@pytest.mark.timeout(60)  # what is quadratic takes hours
def test_tens_of_thousands_of_ports_may_be_one_services() -> None:
    ports = [
        PortConfig(protocol="udp", target_port=80, published_port=number, publish_mode="ingress")
        for number in range(1, 25_001)
    ]
    task = NetworkEndpoint(
        id="t1", node_id="n1", service_id="s1", addresses=["10.0.0.3", "fd00::3"], serving=True, ports=ports
    )
    table = KnownTable("ingress", endpoints={"t1": task}, services={"s1": NetworkService(id="s1", ports=ports)})
    published = PublishedServices()
    assert published.take(table, [task], [], "n1")
    assert len(published.wanted) == 25_000
    _, last = published.wanted["udp", 25_000]
    assert [(str(backend.ip), backend.port) for backend in last.backends] == [("10.0.0.3", 80), ("fd00::3", 80)]
    assert not published.take(table, [task], ["s1"], "n1")
