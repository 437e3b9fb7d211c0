import pytest

from enxame.engine.network_modes import check_network_mode
from enxame.errors import InvalidArgument
from enxame.model.container import ContainerConfig, Empty, HostConfig, PortBinding

SHARED = "container:other"


@pytest.mark.parametrize(
    ("config", "host", "message"),
    [
        ({"hostname": "x"}, {}, "hostname and the network mode"),
        ({}, {"links": ["a:b"]}, "container type network can't be used with links"),
        ({}, {"dns": ["1.1.1.1"]}, "dns and the network mode"),
        ({}, {"extra_hosts": ["a:1.1.1.1"]}, "custom host-to-IP mapping and the network mode"),
        ({"mac_address": "02:42:00:00:00:01"}, {}, "mac-address and the network mode"),
        ({}, {"port_bindings": {"80/tcp": [PortBinding()]}}, "port publishing and the container type network mode"),
        ({"exposed_ports": {"80/tcp": Empty()}}, {}, "port exposing and the container type network mode"),
    ],
)
def test_what_cannot_be_had_in_another_containers_network_is_refused(config, host, message):
    with pytest.raises(InvalidArgument, match=f"conflicting options: {message}"):
        check_network_mode(ContainerConfig(**config), HostConfig(network_mode=SHARED, **host), [])


def test_published_ports_on_the_hosts_network_are_warned_of():
    warnings: list[str] = []
    host = HostConfig(network_mode="host", port_bindings={"80/tcp": [PortBinding()]})
    check_network_mode(ContainerConfig(), host, warnings)
    assert warnings == ["Published ports are discarded when using host network mode"]


def test_a_host_name_needs_names_of_its_own():
    with pytest.raises(InvalidArgument, match="conflicting options: hostname and the UTS mode"):
        check_network_mode(ContainerConfig(hostname="x"), HostConfig(uts_mode="host"), [])
