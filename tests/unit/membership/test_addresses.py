"""Which address a node listens on and advertises."""

import pytest

from enxame.errors import InvalidArgument
from enxame.membership.addresses import Address, Interface, advertise_address, data_path_address, listen_address

ETH0 = Interface("eth0", ("10.99.0.1",))
ETH1 = Interface("eth1", ("10.98.0.1", "fe80::1"))
TWO_ON_ONE = Interface("eth0", ("10.99.0.1", "10.99.0.2"))
ANY = Address("0.0.0.0", 2377)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "0.0.0.0:2377"),
        ("0.0.0.0:2377", "0.0.0.0:2377"),
        ("10.99.0.1", "10.99.0.1:2377"),
        ("10.99.0.1:4000", "10.99.0.1:4000"),
        ("eth1:99", "10.98.0.1:99"),
        ("[fd00::1]:5000", "[fd00::1]:5000"),
        ("fd00::1", "[fd00::1]:2377"),
    ],
)
def test_listen_address_takes_ip_or_interface_with_optional_port(text, expected):
    assert str(listen_address(text, [ETH0, ETH1])) == expected


@pytest.mark.parametrize(
    "text", ["nosuch", "10.99.0.1:abc", "10.99.0.1:0", "10.99.0.1:70000", "10.99.0.1:²", ":2377", "300.1.1.1"]
)
def test_bad_listen_address_is_refused_with_swarms_text(text):
    with pytest.raises(InvalidArgument, match="listen address must be an IP address or network interface"):
        listen_address(text, [ETH0])


def test_the_only_address_is_advertised():
    assert str(advertise_address("", "", ANY, [ETH0])) == "10.99.0.1:2377"


def test_the_listening_address_is_advertised_when_it_is_a_real_one():
    assert str(advertise_address("", "", Address("10.98.0.1", 9), [ETH0, ETH1])) == "10.98.0.1:9"


def test_the_daemons_default_is_advertised_before_guessing():
    assert str(advertise_address("", "eth1", ANY, [ETH0, ETH1])) == "10.98.0.1:2377"


def test_addresses_on_several_interfaces_need_a_choice():
    with pytest.raises(InvalidArgument) as caught:
        advertise_address("", "", ANY, [ETH0, ETH1])
    assert str(caught.value) == (
        "could not choose an IP address to advertise since this system has multiple addresses on different interfaces "
        "(10.99.0.1 on eth0 and 10.98.0.1 on eth1)"
    )


def test_several_addresses_on_one_interface_need_a_choice():
    with pytest.raises(InvalidArgument, match=r"multiple addresses on interface eth0 \(10.99.0.1 and 10.99.0.2\)"):
        advertise_address("", "", ANY, [TWO_ON_ONE])


def test_no_address_at_all():
    with pytest.raises(InvalidArgument, match="could not find the system's IP address"):
        advertise_address("", "", ANY, [])


def test_an_ipv6_only_machine_advertises_its_global_address():
    assert str(advertise_address("", "", ANY, [Interface("eth0", ("fe80::1", "fd00::2"))])) == "[fd00::2]:2377"


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "nosuch"])
def test_unspecified_advertise_address_is_refused(text):
    with pytest.raises(InvalidArgument, match="advertise address must be a non-zero IP address"):
        advertise_address(text, "", ANY, [ETH0])


def test_data_path_address():
    assert data_path_address("", [ETH0]) == ""
    assert data_path_address("eth0", [ETH0]) == "10.99.0.1"
    with pytest.raises(InvalidArgument, match="data path address must be"):
        data_path_address("0.0.0.0", [ETH0])
