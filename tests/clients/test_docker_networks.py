"""Networks of one machine through the stock docker command and ours."""

import json
from collections.abc import Iterator

import pytest

from enxame.testing.daemons import Daemon
from tests.clients.command import IMAGE, Command
from tests.conftest import remove_containers


@pytest.fixture(autouse=True)
def tidy(daemon: Daemon, tool: Command) -> Iterator[None]:
    yield
    remove_containers(daemon)
    tool("network", "prune", "-f")


def networks_of(tool: Command, container: str) -> dict[str, dict[str, object]]:
    return json.loads(tool("inspect", "--format", "{{json .NetworkSettings.Networks}}", container))


def test_containers_find_each_other_by_name_and_alias(tool: Command) -> None:
    tool("network", "create", "app")
    tool("run", "-d", "--name", "web", "--network", "app", "--network-alias", "www", IMAGE)
    address = networks_of(tool, "web")["app"]["IPAddress"]
    for name in ("web", "www", "www.app"):
        found = tool("run", "--rm", "--network", "app", IMAGE, "nslookup", name)
        assert f"Address: {address}" in found or f"Address 1: {address}" in found, found


def test_running_container_is_connected_and_disconnected(tool: Command) -> None:
    tool("network", "create", "--subnet", "10.77.0.0/24", "app")
    tool("run", "-d", "--name", "web", IMAGE)
    tool("network", "connect", "--alias", "www", "--ip", "10.77.0.9", "app", "web")
    assert networks_of(tool, "web")["app"]["IPAddress"] == "10.77.0.9"
    assert "nameserver 127.0.0.11" in tool("exec", "web", "cat", "/etc/resolv.conf")
    assert "10.77.0.9" in tool("exec", "web", "cat", "/etc/hosts")
    assert "10.77.0.9" in tool("exec", "web", "nslookup", "www")
    result = tool.result("network", "connect", "app", "web")
    assert "endpoint with name web already exists in network app" in result.err
    result = tool.result("network", "rm", "app")
    assert "has active endpoints" in result.err
    tool("network", "disconnect", "app", "web")
    assert set(networks_of(tool, "web")) == {"bridge"}
    assert "127.0.0.11" not in tool("exec", "web", "cat", "/etc/resolv.conf")
    assert "10.77.0.9" not in tool("exec", "web", "cat", "/etc/hosts")


def test_what_a_stopped_container_is_connected_to_holds_when_it_starts(tool: Command) -> None:
    tool("network", "create", "app")
    tool("create", "--name", "web", IMAGE)
    tool("network", "connect", "app", "web")
    assert set(networks_of(tool, "web")) == {"bridge", "app"}
    tool("start", "web")
    networks = networks_of(tool, "web")
    assert set(networks) == {"bridge", "app"}
    assert all(network["IPAddress"] for network in networks.values())
    tool("restart", "-t", "0", "web")
    assert set(networks_of(tool, "web")) == {"bridge", "app"}
    tool("stop", "-t", "0", "web")
    tool("network", "disconnect", "bridge", "web")
    assert set(networks_of(tool, "web")) == {"app"}
    result = tool.result("network", "disconnect", "bridge", "web")
    assert "is not connected to the network bridge" in result.err
    tool("start", "web")
    assert set(networks_of(tool, "web")) == {"app"}


def test_what_is_refused_leaves_nothing_behind(tool: Command) -> None:
    tool("network", "create", "--subnet", "10.77.0.0/24", "app")
    for flags, words in (
        (("--ip", "nonsense"), "invalid IPv4 address: nonsense"),
        (("--ip6", "10.77.0.9"), "invalid IPv6 address: 10.77.0.9"),
        (("--link-local-ip", "zzz"), "invalid link-local IP address: zzz"),
    ):
        assert words in tool.refused("run", "--name", "web", "--network", "app", *flags, IMAGE)
    assert tool("ps", "-aq") == ""
    tool("run", "-d", "--name", "hosts", "--network", "host", "--entrypoint", "sleep", IMAGE, "1000")
    assert "container sharing network namespace with another container or host" in tool.refused(
        "network", "connect", "app", "hosts"
    )


def test_a_stopped_containers_place_on_a_network_can_be_asked_for_anew(tool: Command) -> None:
    tool("network", "create", "--subnet", "10.77.0.0/24", "app")
    # On networks with names of their own a link may lead to what comes later.
    tool("create", "--name", "web", "--network", "app", "--link", "later:db", IMAGE)
    tool("network", "connect", "--ip", "10.77.0.77", "app", "web")
    tool("start", "web")
    assert networks_of(tool, "web")["app"]["IPAddress"] == "10.77.0.77"


def test_links_lead_to_the_linked_container(tool: Command) -> None:
    tool("network", "create", "app")
    tool("run", "-d", "--name", "db-1", "--network", "app", IMAGE)
    address = networks_of(tool, "db-1")["app"]["IPAddress"]
    assert str(address) in tool("run", "--rm", "--network", "app", "--link", "db-1:db", IMAGE, "nslookup", "db")
    tool("run", "-d", "--name", "old", IMAGE)
    hosts = tool("run", "--rm", "--link", "old:legacy", IMAGE, "cat", "/etc/hosts")
    assert f"{networks_of(tool, 'old')['bridge']['IPAddress']}\tlegacy" in hosts
