from __future__ import annotations

import json

from enxame.engine.networks.table_view import with_table
from enxame.engine.networks.tables import KnownTable
from enxame.model.base import encode
from enxame.model.dispatch import NetworkEndpoint, NetworkService
from enxame.model.network import NetworkResource


def shown(service: NetworkService, *addresses: str) -> dict[str, object]:
    endpoint = NetworkEndpoint(id="t1", service_id="s", addresses=list(addresses), names=["web.1.t1"], serving=True)
    table = KnownTable("n", endpoints={"t1": endpoint}, services={"s": service})
    found = json.loads(encode(with_table(NetworkResource(name="app", id="n"), table, verbose=True)))
    services: dict[str, dict[str, object]] = found["Services"]
    return services["web"]


def test_what_is_of_ipv6_has_names_of_its_own_beside_dockers() -> None:
    web = shown(NetworkService(id="s", name="web", vip="10.0.1.2", vip6="fd00::2"), "10.0.1.3", "fd00::3")
    assert (web["VIP"], web["VIPv6"]) == ("10.0.1.2", "fd00::2")
    (task,) = web["Tasks"]
    assert (task["EndpointIP"], task["EndpointIPv6"]) == ("10.0.1.3", "fd00::3")


def test_containers_outside_services_are_shown_as_those_of_no_service() -> None:
    here = NetworkEndpoint(id="a1", addresses=["10.0.1.9"], names=["db"], data_path="192.0.2.2", serving=True)
    found = with_table(NetworkResource(name="app", id="n"), KnownTable("n", endpoints={"a1": here}), verbose=True)
    assert json.loads(encode(found))["Services"] == {
        "": {
            "VIP": "<nil>",
            "Ports": [],
            "LocalLBIndex": 0,
            "Tasks": [{"Name": "db", "EndpointID": "a1", "EndpointIP": "10.0.1.9", "Info": {"Host IP": "192.0.2.2"}}],
        }
    }
    assert with_table(NetworkResource(name="app", id="n"), KnownTable("n"), verbose=True).services == {}


def test_without_ipv6_there_is_what_docker_shows() -> None:
    web = shown(NetworkService(id="s", name="web", mode="dnsrr"), "10.0.1.3")
    assert web["VIP"] == "<nil>"
    assert web.keys() == {"VIP", "Ports", "LocalLBIndex", "Tasks"}
    assert web["Tasks"][0].keys() == {"Name", "EndpointID", "EndpointIP", "Info"}
