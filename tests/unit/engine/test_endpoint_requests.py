import pytest

from enxame.engine.endpoint_requests import check_endpoint, check_endpoints
from enxame.errors import InvalidArgument
from enxame.model.container import EndpointIPAMConfig, EndpointSettings


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"ipv4_address": "nonsense"}, "invalid IPv4 address: nonsense"),
        ({"ipv4_address": "10.0.0.300"}, "invalid IPv4 address: 10.0.0.300"),
        ({"ipv4_address": "fd00::1"}, "invalid IPv4 address: fd00::1"),
        ({"ipv4_address": " 10.0.0.1"}, "invalid IPv4 address:  10.0.0.1"),
        ({"ipv6_address": "10.0.0.1"}, "invalid IPv6 address: 10.0.0.1"),
        ({"link_local_ips": ["169.254.1.1", "zzz"]}, "invalid link-local IP address: zzz"),
    ],
)
def test_what_is_no_address_is_refused(wanted, message):
    with pytest.raises(InvalidArgument) as refused:
        check_endpoint(EndpointSettings(ipam_config=EndpointIPAMConfig(**wanted)))
    assert refused.value.message == message


def test_what_is_no_link_address_is_refused():
    with pytest.raises(InvalidArgument, match="zz is not a valid mac address"):
        check_endpoint(EndpointSettings(mac_address="zz"))


def test_addresses_pass_also_with_the_length_of_a_prefix():
    wanted = EndpointIPAMConfig(ipv4_address="10.0.0.5/24", ipv6_address="fd00::5")
    check_endpoint(EndpointSettings(ipam_config=wanted, mac_address="02:42:ac:11:00:02"))
    check_endpoint(EndpointSettings())


def test_link_local_addresses_are_warned_of():
    warnings: list[str] = []
    wanted = EndpointIPAMConfig(link_local_ips=["169.254.1.1"])
    check_endpoints({"app": EndpointSettings(ipam_config=wanted), "other": EndpointSettings()}, warnings)
    assert warnings == ["Link-local addresses are not set: containers have those that follow from their links"]
