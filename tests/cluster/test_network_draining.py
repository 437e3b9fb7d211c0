"""Whoever is connected to a task is answered to the end, whatever ends it: scaling, draining, removing, leaving."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from enxame.testing.cluster import Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.namespace import LanHost, NetworkNamespace
from tests.cluster.test_network_mesh import (
    DRAINING,
    HEALTH,
    LOAD,
    PORT,
    Inside,
    answers,
    change,
    containers,
    known_everywhere,
    published,
)

#: Its answers begin at once, and end after the container was told to stop; it ends when they have.
SLOW = """
printf '#!/bin/sh
mkdir /tmp/busy.$$; echo "Content-Type: text/plain"; echo; echo begun
while [ ! -e /tmp/told ]; do sleep 0.1; done; sleep 0.5; echo ended; rmdir /tmp/busy.$$' > /www/cgi-bin/slow
chmod 755 /www/cgi-bin/slow
trap "touch /tmp/told; while ls -d /tmp/busy.*; do sleep 0.1; done; sleep 0.3; exit 0" TERM
httpd -f -p 80 -h /www & wait
"""


@pytest.fixture(scope="module")
def client(machines: Cluster) -> LanHost:
    """A machine beside the swarm's."""
    return machines.lan.attach()


def begin(namespace: NetworkNamespace, address: str, port: int) -> socket.socket:
    """Ask for the slow answer; returns once it has begun."""

    def asked() -> socket.socket | None:
        try:
            connection = namespace.connect(address, port)
        except OSError:
            return None
        connection.settimeout(30)
        connection.sendall(b"GET /cgi-bin/slow HTTP/1.0\r\n\r\n")
        seen = b""
        while b"begun" not in seen:
            more = connection.recv(1000)
            if not more:
                connection.close()
                return None
            seen += more
        return connection

    return wait_until(asked, "the answer has begun")


def scale_down(cluster: Cluster, service: str, _: Machine) -> None:
    change(cluster, service, Mode={"Replicated": {"Replicas": 0}})


def drain(cluster: Cluster, _: str, machine: Machine) -> None:
    cluster.update(machine.swarm()["NodeID"], Availability="drain")


def remove(cluster: Cluster, service: str, _: Machine) -> None:
    cluster.manager.api.delete(f"/services/{service}")


def leave(_: Cluster, __: str, machine: Machine) -> None:
    machine.api.post("/swarm/leave")


@pytest.mark.parametrize("end", [scale_down, drain, remove, leave])
def test_established_connections_are_answered_to_the_end(
    cluster: Cluster, client: LanHost, end: Callable[[Cluster, str, Machine], None]
) -> None:
    network = str(cluster.manager.api.post("/networks/create", {"Name": "app", "Driver": "overlay"})["Id"])
    busy, other = cluster.workers
    there = {"Placement": {"Constraints": [f"node.id=={busy.swarm()['NodeID']}"]}}
    elsewhere = {"Placement": {"Constraints": [f"node.id=={other.swarm()['NodeID']}"]}}
    on = {"Networks": [{"Target": network}]}
    slow = {"ContainerSpec": {"Command": ["sh", "-c", SLOW], "Healthcheck": HEALTH}, **there, **on}
    service = cluster.create_service("web", 1, EndpointSpec=published(), TaskTemplate=slow)
    cluster.create_service("asker", 1, TaskTemplate={**elsewhere, **on})
    vips = cluster.manager.api.get(f"/services/{service}")["Endpoint"]["VirtualIPs"]
    vip = next(item["Addr"].partition("/")[0] for item in vips if item["NetworkID"] == network)
    (asker,) = containers(cluster, "asker")
    try:
        with ExitStack() as stack:
            inside = stack.enter_context(Inside(other, asker))
            # Through the mesh of a machine without the task, and by the virtual address.
            connections = [
                stack.enter_context(begin(client.host, cluster.manager.network.host_address, PORT)),
                stack.enter_context(begin(inside, vip, 80)),
            ]
            end(cluster, service, busy)
            for connection in connections:
                answer = b"".join(iter(lambda c=connection: c.recv(1000), b""))
                assert answer.endswith(b"ended\n"), answer
    finally:
        for left in cluster.manager.api.get("/services"):
            cluster.manager.api.delete(f"/services/{left['ID']}")
        cluster.heal()
        cluster.manager.api.delete(f"/networks/{network}")


def test_a_machine_that_leaves_loses_no_request(cluster: Cluster, client: LanHost) -> None:
    slow = {"ContainerSpec": {"Command": ["sh", "-c", DRAINING], "Healthcheck": HEALTH}}
    cluster.create_service("web", 3, EndpointSpec=published(), TaskTemplate={**slow, "Placement": {"MaxReplicas": 1}})
    known_everywhere(cluster, client, "web")
    stays, leaves = cluster.workers
    places = [f"{machine.network.host_address}:{PORT}" for machine in (cluster.manager, stays)]
    command = client.host.argv(sys.executable, str(LOAD), "8", *places)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "requests flow\n"
            leaves.api.post("/swarm/leave")
            assert not answers(client, leaves)
            output, _ = program.communicate(timeout=60)
        finally:
            program.kill()
    outcome = json.loads(output)
    assert outcome["failed"] == {}
    assert len(outcome["answered"]) == 3
