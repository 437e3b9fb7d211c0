import pytest

from enxame.engine.network_modes import check_network_mode, with_link_address
from enxame.errors import InvalidArgument
from enxame.model.container import ContainerConfig, Empty, EndpointSettings, HostConfig, PortBinding

SHARED = "container:other"
MAC = "02:42:11:22:33:44"


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


def test_the_hosts_link_addresses_stay():
    with pytest.raises(InvalidArgument, match="conflicting options: mac-address and the network mode"):
        check_network_mode(ContainerConfig(mac_address=MAC), HostConfig(network_mode="host"), [])


def test_a_host_name_needs_names_of_its_own():
    with pytest.raises(InvalidArgument, match="conflicting options: hostname and the UTS mode"):
        check_network_mode(ContainerConfig(hostname="x"), HostConfig(uts_mode="host"), [])


@pytest.mark.parametrize(
    ("mode", "endpoints", "got"),
    [
        ("default", {}, "default"),
        ("app", {}, "app"),
        ("app", {"other": EndpointSettings(), "app": EndpointSettings(aliases=["x"])}, "app"),
        ("app", {"app": EndpointSettings(mac_address=MAC)}, "app"),
        ("0123456789ab", {"app": EndpointSettings()}, "app"),
    ],
)
def test_the_containers_link_address_is_that_of_its_main_network(mode, endpoints, got):
    made = with_link_address(MAC, mode, endpoints)
    assert {name for name, settings in made.items() if settings.mac_address == MAC} == {got}
    assert endpoints.keys() <= made.keys()


def test_a_link_address_goes_with_one_main_network_and_with_none_on_the_hosts():
    with pytest.raises(InvalidArgument, match="the container-wide MAC address must match the endpoint-specific"):
        with_link_address(MAC, "app", {"app": EndpointSettings(mac_address="02:42:11:22:33:55")})
    assert with_link_address(MAC, "host", {}) == {}
    assert with_link_address("", "app", {}) == {}
