"""The stock docker command, unmodified: published ports, the default bridge, the host's network."""

import re
import socket

import pytest

from enxame.testing.daemons import Daemon
from tests.clients.command import IMAGE, Command, columns, started

pytestmark = pytest.mark.usefixtures("tidy")


def test_a_published_port_answers_outside_on_the_host_and_in_containers(docker: Command, daemon: Daemon) -> None:
    container = started(docker, "-p", "8091:80")
    network = daemon.network
    assert network.outside.http_get(network.host_address, 8091).strip() == container[:12]
    assert network.host.http_get("127.0.0.1", 8091).strip() == container[:12]
    assert network.host.http_get(network.host_address, 8091).strip() == container[:12]
    assert docker("run", "--rm", IMAGE, "wget", "-qO-", f"http://{network.host_address}:8091/") == container[:12]
    assert docker("port", container).splitlines()[0] == "80/tcp -> 0.0.0.0:8091"
    docker("rm", "-f", container)
    with pytest.raises((ConnectionError, TimeoutError)):
        network.outside.http_get(network.host_address, 8091, timeout=2)


def test_a_port_is_published_once(docker: Command) -> None:
    started(docker, "-p", "8092:80")
    result = docker.result("run", "-d", "--name", "late", "-p", "8092:80", IMAGE)
    assert result.code == 125
    assert "Bind for 0.0.0.0:8092 failed: port is already allocated" in result.err


def test_a_port_that_a_program_of_the_host_holds_is_refused(docker: Command, daemon: Daemon) -> None:
    with daemon.network.host.open_socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("0.0.0.0", 8093))
        taken.listen()
        result = docker.result("run", "-d", "-p", "8093:80", IMAGE)
    assert result.code == 125
    assert "address already in use" in result.err


def test_all_exposed_ports_can_be_published_on_free_ones(docker: Command, daemon: Daemon) -> None:
    container = started(docker, "-P")
    port = int(docker("inspect", "-f", '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', container))
    assert port > 1023
    assert daemon.network.outside.http_get(daemon.network.host_address, port).strip() == container[:12]


def test_containers_on_the_bridge_reach_each_other(docker: Command) -> None:
    server = started(docker)
    address = docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", server)
    assert docker("run", "--rm", IMAGE, "wget", "-qO-", f"http://{address}/") == server[:12]


def test_host_and_none_networks(docker: Command, daemon: Daemon) -> None:
    assert {"bridge", "host", "none"} <= {row["NAME"] for row in columns(docker("network", "ls"))}
    assert f"inet {daemon.network.host_address}/" in docker("run", "--rm", "--network", "host", IMAGE, "ip", "address")
    alone = docker("run", "--rm", "--network", "none", IMAGE, "ip", "-o", "link")
    assert re.findall(r"^\d+: (\w+)", alone, re.M) == ["lo"]
