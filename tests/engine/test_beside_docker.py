"""Containers' packets where dockerd's packet filter is: rules as dockerd makes them, and a real dockerd."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from enxame.model.container import PortBinding
from enxame.network import docker_firewall
from enxame.testing.daemons import Dockerd, Enxamed, wait_until
from enxame.testing.namespace import HostAndOutside, run
from enxame.testing.sample_image import DEFAULT_TAG
from tests.engine.mesh_lab import ingress, set_ingress, tasks
from tests.engine.network_lab import HOST, OUTSIDE, Lab
from tests.engine.network_machine import Machine, publish, running

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("iptables") is None, reason="needs iptables"),
]


def works(program: str) -> bool:
    """Whether the program and the kernel's part are there. Asked in a namespace of its own: asking makes tables."""
    found = shutil.which(program)
    if found is None:
        return False
    try:
        run("unshare", "-n", found, "-S")
    except RuntimeError:
        return False
    return True


@pytest.fixture(params=["iptables-nft", "iptables-legacy"])
def iptables(request: pytest.FixtureRequest) -> str:
    """What dockerd uses, whichever it is called ``iptables``."""
    if not works(request.param):
        pytest.skip(f"needs {request.param}")
    return str(request.param)


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab(router=True)
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture
async def machine(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    monkeypatch.setattr(docker_firewall, "_SECONDS", 0.05)
    async with running(Machine(lab, tmp_path)) as machine:
        yield machine


def docker_begins(lab: Lab, iptables: str) -> None:
    """What dockerd tells iptables at its start."""
    for command in (
        "-P FORWARD DROP",
        "-N DOCKER-USER",
        "-A DOCKER-USER -s 198.51.100.0/24 -j DROP",
        "-A DOCKER-USER -j RETURN",
        "-I FORWARD -j DOCKER-USER",
    ):
        lab.command(lab.host, f"{iptables} {command}")


def rules(lab: Lab, iptables: str) -> list[str]:
    return [line for line in lab.command(lab.host, f"{iptables} -S DOCKER-USER").splitlines() if line.startswith("-A")]


async def until(lab: Lab, iptables: str, count: int) -> None:
    async with asyncio.timeout(30):
        while len(await asyncio.to_thread(rules, lab, iptables)) != count:
            await asyncio.sleep(0.02)


async def test_packets_pass_wherever_dockers_rules_come_and_go_and_users_rules_stay_first(
    machine: Machine, iptables: str
) -> None:
    lab = machine.lab
    await tasks(machine, 1)
    await set_ingress(machine, ingress(8080, "10.0.0.3"))
    _, web = await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8090")))
    machine.serve(web.netns_path, 80, "web")
    docker_begins(lab, iptables)
    await until(lab, iptables, 6)
    found = rules(lab, iptables)
    assert found[0] == "-A DOCKER-USER -s 198.51.100.0/24 -j DROP"
    assert found[-1] == "-A DOCKER-USER -j RETURN"
    assert await machine.ask(lab.outside, HOST, 8080) == ("task0", OUTSIDE)
    assert await machine.ask(lab.outside, HOST, 8090) == ("web", OUTSIDE)
    lab.command(lab.host, f"{iptables} -F DOCKER-USER")
    lab.command(lab.host, f"{iptables} -A DOCKER-USER -j RETURN")
    await until(lab, iptables, 5)
    assert await machine.ask(lab.outside, HOST, 8080) == ("task0", OUTSIDE)


async def test_where_there_is_no_docker_its_rules_are_not_made(machine: Machine) -> None:
    await asyncio.sleep(0.2)
    assert "DOCKER-USER" not in machine.lab.command(machine.lab.host, "iptables -S")


def calling(iptables: str, directory: Path) -> Path:
    """A directory in which ``iptables`` and ``ip6tables`` are these."""
    directory.mkdir()
    for name in ("iptables", "ip6tables"):
        (directory / name).symlink_to(str(shutil.which(iptables.replace("iptables", name))))
    return directory


def test_a_service_answers_beside_a_real_dockerd(sample_archive: bytes, iptables: str) -> None:
    if shutil.which("dockerd") is None:
        pytest.skip("needs dockerd")
    with ExitStack() as stack:
        # Not pytest's own directory: the paths of sockets must be short.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="enxb-", dir="/var/tmp")))
        network = stack.enter_context(HostAndOutside("bd"))
        # Where it finds forwarding switched off, dockerd lets nothing pass that it does not know.
        network.host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        docker = Dockerd(directory / "d", network)
        docker.environment = {"PATH": f"{calling(iptables, directory / 'bin')}:{os.environ['PATH']}"}
        stack.enter_context(docker)
        ours = stack.enter_context(Enxamed(directory / "e", network))
        assert "DROP" in network.host.run(iptables, "-S", "FORWARD").splitlines()[0]
        ours.api.post("/images/load", sample_archive)
        ours.api.post("/swarm/init", {"ListenAddr": "0.0.0.0:2377"})
        spec = {
            "Name": "web",
            "TaskTemplate": {"ContainerSpec": {"Image": DEFAULT_TAG}},
            "Mode": {"Replicated": {"Replicas": 2}},
            "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]},
        }
        ours.api.post("/services/create", spec)

        def answered() -> bool:
            try:
                return len({network.outside.http_get(network.host_address, 8080, timeout=1) for _ in range(6)}) == 2
            except OSError:
                return False

        wait_until(answered, "both tasks answer from outside")
        ours.leave_no_container()
