"""``enxame network create``: which subnet each option belongs to. The texts are those of docker 20.10."""

import pytest

TWO = ("--subnet", "10.1.0.0/24", "--subnet=10.2.0.0/24")


def test_subnets_keep_their_order_and_each_option_goes_to_the_subnet_that_it_lies_in(daemon, enxame):
    daemon.answers = {"POST /networks/create": (201, {"Id": "n"})}
    options = ("--gateway=10.2.0.9", "--gateway=10.1.0.9", "--ip-range=10.2.0.0/25", "--aux-address", "a=10.1.0.5")
    six = ("--ipv6", "--subnet=fd00:2::/64,fd00:1::/64", "--gateway=fd00:1::9", "--aux-address", "b=fd00:2::5")
    assert enxame("network", "create", "-d", "overlay", *TWO, *options, *six, "x").out == "n\n"
    assert daemon.requests[-1].body["IPAM"]["Config"] == [
        {"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.9", "AuxiliaryAddresses": {"a": "10.1.0.5"}},
        {"Subnet": "10.2.0.0/24", "IPRange": "10.2.0.0/25", "Gateway": "10.2.0.9"},
        {"Subnet": "fd00:2::/64", "AuxiliaryAddresses": {"b": "fd00:2::5"}},
        {"Subnet": "fd00:1::/64", "Gateway": "fd00:1::9"},
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--gateway 10.1.0.1 --gateway 10.1.0.2",
            "cannot configure multiple gateways (10.1.0.2, 10.1.0.1) for the same subnet (10.1.0.0/24)",
        ),
        (
            "--ip-range 10.1.0.0/25 --ip-range 10.1.0.128/25",
            "cannot configure multiple ranges (10.1.0.128/25, 10.1.0.0/25) on the same subnet (10.1.0.0/24)",
        ),
        ("--gateway 10.3.0.1", "no matching subnet for gateway 10.3.0.1"),
        ("--gateway fd00::1", "no matching subnet for gateway fd00::1"),
        ("--ip-range 10.3.0.0/25", "no matching subnet for range 10.3.0.0/25"),
        ("--aux-address a=10.3.0.1", "no matching subnet for aux-address 10.3.0.1"),
        ("--aux-address a=x", "no matching subnet for aux-address x"),
        (
            "--gateway 10.1.0.1 --gateway 10.2.0.1 --gateway 10.3.0.1",
            "every ip-range or gateway must have a corresponding subnet",
        ),
        ("--subnet 10.2.0.128/25", "multiple overlapping subnet configuration is not supported"),
        ("--subnet fd00::1", "invalid subnet: invalid CIDR address: fd00::1"),
        ("--ip-range zz", "invalid CIDR address: zz"),
    ],
)
def test_what_belongs_nowhere_is_refused_in_dockers_words(daemon, enxame, words, message):
    outcome = enxame("network", "create", *TWO, *words.split(), "x")
    assert (outcome.code, outcome.err.strip()) == (1, message)
    assert not [request for request in daemon.requests if request.method == "POST"]
