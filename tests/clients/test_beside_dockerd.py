"""What is said of the swarm's networks and published ports, beside a real dockerd: the same commands and words."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from enxame.testing.daemons import Dockerd, Enxamed
from enxame.testing.namespace import HostAndOutside
from tests.clients.command import IMAGE, Command, docker_programs

#: Commands in their order; where nothing runs, dockerd needs no IPVS. ``IMAGE`` is the sample's.
LINES = """
network create -d overlay o1
network create -d overlay o1
network create -d bridge o1
network create -d overlay ingress
network create -d overlay a:b
network create -d overlay -- -ab
network create -d overlay ünï
network create -d overlay aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
network create -d overlay --subnet 10.42.0.0/24 --gateway 10.9.0.1 bad
network create -d overlay --subnet 10.43.0.0/24 --ip-range 10.9.0.0/25 bad
network create -d overlay --gateway 10.42.3.1 bad
network create -d overlay --subnet 10.45.0.0/24 --subnet 10.45.0.0/25 bad
network create -d overlay --ingress ing2
network create -d overlay --ingress --attachable ing4
network create -d overlay --scope local bad
network create -d overlay --ipam-driver nosuch bad
network create -d overlay --label a=b --attachable --internal lab
network inspect -f '{{.Name}} {{.Scope}} {{.Driver}} {{.Attachable}} {{.Internal}} {{.Ingress}} {{json .Labels}}' lab
network ls --format '{{.Name}} {{.Driver}} {{.Scope}}' -f scope=swarm
network ls -q --no-trunc -f label=a=b
network ls -f type=x
network create -d overlay o2
service create -d --replicas 0 --name s1 --network name=o1,alias=web,driver-opt=a=b IMAGE
service inspect -f '{{json .Spec.TaskTemplate.Networks}} {{json .Spec.EndpointSpec}}' s1
service create -d --replicas 0 --name no --network nosuch IMAGE
service create -d --replicas 0 --name no --network ingress IMAGE
service create -d --replicas 0 --name no --network name=o1,foo=bar IMAGE
service update -d --network-add o2 s1
service update -d --network-add o2 s1
service update -d --network-rm o1 s1
service update -d --network-rm nosuch s1
service inspect --pretty s1
network rm o2
network rm o1
network rm host
network rm nosuch
service create -d --replicas 0 --name p1 -p 8080:80 -p 9010-9012:80 -p 9020-9021:90-91/udp IMAGE
service ls --format '{{.Name}} {{.Ports}}'
service create -d --replicas 0 --name no -p 8080:81 IMAGE
service create -d --replicas 0 --name no -p target=80,published=8080,mode=host IMAGE
service create -d --replicas 0 --name p2 -p 8080:80/udp -p 80 IMAGE
service inspect -f '{{json .Spec.EndpointSpec}} {{json .Endpoint.Ports}}' p2
service inspect --pretty p2
service create -d --replicas 0 --name no -p 9040:80 -p 9040:81 IMAGE
service create -d --replicas 0 --name no -p 65536:80 IMAGE
service create -d --replicas 0 --name no -p 127.0.0.1:90:80 IMAGE
service create -d --replicas 0 --name no -p 9030:80-83 IMAGE
service create -d --replicas 0 --name no -p target=80,mode=xyz IMAGE
service create -d --replicas 0 --name no -p published=9060 IMAGE
service create -d --replicas 0 --name p3 -p TARGET=80,PUBLISHED=9063,protocol=UDP IMAGE
service create -d --replicas 0 --name no --endpoint-mode dnsrr -p 9070:80 IMAGE
service create -d --replicas 0 --name p4 --endpoint-mode dnsrr -p target=80,published=9071,mode=host IMAGE
service create -d --replicas 0 --name no --endpoint-mode xyz IMAGE
service update -d --publish-add 9063:80/udp p1
service update -d --publish-add 9100:80 --publish-rm 8080:80 p1
service inspect -f '{{json .Endpoint.Spec.Mode}} {{len .Endpoint.Ports}}' p1
service update -d --publish-rm 80 p1
service ls --format '{{.Name}} {{.Ports}}' -f name=p1
service update -d --endpoint-mode dnsrr p1
service update -d --dns-add 1.2.3.4 --dns-search-add a.b --dns-option-add ndots:3 --host-add web:1.2.3.4 p1
service inspect -f '{{with .Spec.TaskTemplate.ContainerSpec}}{{json .DNSConfig}} {{json .Hosts}}{{end}}' p1
service rm s1 p1 p2 p3 p4 nosuch
network prune -f --filter label=a
network create --subnet 10.66.0.0/24 br
run -d --name no --network br --ip nonsense IMAGE
run -d --name no --network br --ip6 10.66.0.9 IMAGE
create --name k1 --network br --link nosuch IMAGE
network connect --ip 10.66.0.9 br k1
start k1
network disconnect lab k1
network connect host k1
run -d --name k2 --network host --entrypoint sleep IMAGE 1000
network connect br k2
network disconnect host k2
network create --internal inner
run -d --name k3 --network inner -p 9501:80 IMAGE
port k3
rm -f k1 k2 k3
"""


@pytest.fixture(scope="module")
def both(sample_archive: bytes, short_directory: Callable[[], Path]) -> Iterator[list[Command]]:
    """The stock command for dockerd and for enxamed, each in a swarm of one."""
    if shutil.which("dockerd") is None or not docker_programs():
        pytest.skip("needs dockerd and docker")
    with ExitStack() as stack:
        commands = []
        for kind in (Dockerd, Enxamed):
            directory = short_directory()
            daemon = stack.enter_context(kind(directory / "d", stack.enter_context(HostAndOutside("bd"))))
            daemon.api.post("/images/load", sample_archive)
            daemon.api.post("/swarm/init", {"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": "10.99.0.1"})
            # The same command for both; of several the one that the machine's own packages bring.
            commands.append(Command(docker_programs()[-1], daemon, directory))
        yield commands


def _plain(text: str) -> str:
    """Without what is different every time."""
    text = re.sub(r"\b[0-9a-f]{64}\b|\b(?=[0-9a-z]*[0-9])[0-9a-z]{25}\b", "<id>", text)
    # Docker's command sends some lists in any order.
    return "\n".join(sorted(text.splitlines())) if "PublishedPort = " in text else text


def test_networks_and_published_ports_are_told_of_in_dockerds_words(both: list[Command]) -> None:
    different = []
    with ThreadPoolExecutor(2) as pool:
        for line in LINES.strip().splitlines():
            words = [IMAGE if word == "IMAGE" else word for word in shlex.split(line)]
            theirs, ours = pool.map(lambda command, words=words: command.result(*words), both)
            if (theirs.code, _plain(theirs.out), _plain(theirs.err)) != (ours.code, _plain(ours.out), _plain(ours.err)):
                different.append(f"{line}\n  dockerd: {theirs}\n  enxamed: {ours}")
    assert not different, "\n".join(different)
