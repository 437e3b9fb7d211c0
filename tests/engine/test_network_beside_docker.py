"""A real dockerd on the same machine, whose firewall drops what it does not know."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from enxame.testing.cluster import Cluster
from enxame.testing.daemons import Dockerd, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def cluster(sample_archive: bytes) -> Iterator[Cluster]:
    # Not pytest's own directory: the paths of sockets must be short.
    with (
        tempfile.TemporaryDirectory(prefix="enxd-", dir="/var/tmp") as directory,
        Cluster(Path(directory), sample_archive, machines=2) as made,
    ):
        made.heal()
        yield made


def test_traffic_passes_though_dockerd_drops_what_it_does_not_know(cluster: Cluster) -> None:
    machine, other = cluster.machines
    firewall = machine.network.host.run
    with Dockerd(machine.directory.parent / "dockerd", machine.network) as dockerd:
        # What dockerd does where it switches forwarding on itself.
        firewall("iptables", "-P", "FORWARD", "DROP")
        network = cluster.manager.api.post("/networks/create", {"Name": "ov", "Driver": "overlay"})["Id"]
        cluster.create_service(
            "web",
            4,
            TaskTemplate={"Networks": [{"Target": network}]},
            EndpointSpec={"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]},
        )
        machine.kill()
        machine.start()
        assert firewall("iptables", "-S", "DOCKER-USER").count("-j ACCEPT") == 4
        wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all are ready")
        tasks = cluster.running("web")
        here = [task for task in tasks if task["NodeID"] == machine.swarm()["NodeID"]]
        inside = ["nsenter", "-t", str(here[0]["Status"]["ContainerStatus"]["PID"]), "-n", "busybox", "ping", "-c", "1"]
        for task in tasks:
            (attachment,) = [item for item in task["NetworksAttachments"] if item["Network"]["ID"] == network]
            address = attachment["Addresses"][0].partition("/")[0]
            assert subprocess.run([*inside, "-W", "2", address], check=False, capture_output=True).returncode == 0, (
                address
            )
        outside = other.network.host_address
        assert subprocess.run([*inside, "-W", "2", outside], check=False, capture_output=True).returncode == 0
        wait_until(
            lambda: other.network.host.http_get(machine.network.host_address, 8080, timeout=2), "the mesh answers"
        )
        # dockerd's own rules are as they were, and are left alone by a second look.
        machine.stop()
        machine.start()
        assert firewall("iptables", "-S", "DOCKER-USER").count("-j ACCEPT") == 4
        assert dockerd.runs()
