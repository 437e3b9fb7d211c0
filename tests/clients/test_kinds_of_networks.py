"""Networks through the stock docker command: with IPv6, on the wire, made from configurations."""

import json
from collections.abc import Iterator

import pytest

from enxame.testing.daemons import Daemon
from enxame.testing.namespace import HostAndOutside
from tests.clients.command import IMAGE, Command, columns, started
from tests.conftest import remove_containers


@pytest.fixture(autouse=True)
def tidy(daemon: Daemon) -> Iterator[None]:
    yield
    remove_containers(daemon)
    daemon.api.post("/networks/prune")


def test_a_network_with_ipv6(docker: Command) -> None:
    docker("network", "create", "--ipv6", "--subnet", "fd00:7::/64", "--subnet", "10.77.0.0/24", "both")
    assert json.loads(docker("network", "inspect", "-f", "{{json .IPAM.Config}}", "both"))[1]["Subnet"] == "fd00:7::/64"
    docker("run", "-d", "--name", "web", "--network", "both", "--ip6", "fd00:7::80", "-p", "8080:80", IMAGE)
    assert "fd00:7::80" in docker("run", "--rm", "--network", "both", IMAGE, "nslookup", "web")
    docker("run", "--rm", "--network", "both", IMAGE, "ping", "-c", "1", "fd00:7::80")
    assert docker("inspect", "-f", "{{.NetworkSettings.Networks.both.GlobalIPv6Address}}", "web") == "fd00:7::80"
    ports = columns(docker("ps"))[0]["PORTS"]
    assert "0.0.0.0:8080->80/tcp" in ports
    assert "::" in ports
    four, six = docker("port", "web").splitlines()
    assert four == "80/tcp -> 0.0.0.0:8080"
    assert six.replace("[", "").replace("]", "") == "80/tcp -> :::8080"


def test_a_network_on_the_wire(docker: Command, daemon: Daemon) -> None:
    assert isinstance(daemon.network, HostAndOutside)
    made = docker.result(
        "network", "create", "-d", "macvlan", "--subnet", "203.0.113.0/24", "-o", "parent=eth0", "wire"
    )
    if made.code and "has no macvlan" in made.err:
        pytest.skip(made.err)
    daemon.network.outside.ip("address", "replace", "203.0.113.9/24", "dev", "eth0")
    started(docker, "--name", "web", "--network", "wire", "--ip", "203.0.113.80")
    assert "203.0.113.9" in daemon.network.outside.http_get("203.0.113.80", 80, "/cgi-bin/whoami")
    assert "parent=LINK" in docker.refused("network", "create", "-d", "macvlan", "nowhere")
    assert "ipvlan networks are not supported" in docker.refused("network", "create", "-d", "ipvlan", "other")


def test_a_network_made_from_a_configuration(docker: Command) -> None:
    docker("network", "create", "--config-only", "--subnet", "10.78.0.0/24", "--label", "kept=yes", "plan")
    docker("network", "create", "--config-from", "plan", "made")
    shown = json.loads(docker("network", "inspect", "made"))[0]
    assert shown["ConfigFrom"] == {"Network": "plan"}
    assert shown["IPAM"]["Config"][0]["Subnet"] == "10.78.0.0/24"
    assert shown["Labels"] == {"kept": "yes"}
    assert docker("run", "--rm", "--network", "made", IMAGE, "hostname", "-i") == "10.78.0.2"
    assert 'configuration network "plan" is in use' in docker.refused("network", "rm", "plan")
    docker("network", "create", "unused")
    assert set(docker("network", "prune", "-f").splitlines()[1:]) == {"made", "unused"}
    assert docker("network", "ls", "-q", "--filter", "name=plan")
    docker("network", "create", "--config-from", "plan", "made")
    assert "configuration-only network" in docker.refused("run", "--rm", "--network", "plan", IMAGE, "true")
    missing = docker.refused("network", "create", "--config-from", "none", "other")
    assert 'configuration network "none" does not exist' in missing
    docker("network", "rm", "made")
    docker("network", "rm", "plan")
