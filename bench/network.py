"""How fast packets, names and rules are: ``python -m bench.network [--rounds N]`` (as root; needs iperf3 and wrk).

Two machines on a switch (namespaces), a daemon on each, the same containers on both daemons. Programs that measure run
in the containers' network namespaces. The best of some short rounds is shown: whatever else the machine does disturbs
that least; and the least processor time, which is hardly disturbed at all. dockerd's virtual addresses and mesh need
IPVS, which not every kernel has: of it only packets between containers are measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import uvloop

from bench import name_resolution, processor_time
from bench.network_rules import measure_rules
from bench.plain_routes import plain_routes
from enxame.testing import sample_image
from enxame.testing.daemons import DAEMONS, Daemon, wait_until
from enxame.testing.namespace import Lan, LanHost, NetworkNamespace
from tests.engine.network_lab import Lab

_SERVER: Final = pathlib.Path(__file__).with_name("network_server.py")
_IPERF: Final = 5201
_HTTP: Final = 8000
_PUBLISHED: Final = 9100


#: The process ids of the servers that run.
_servers: Final[list[int]] = []


class Place:
    """A network namespace in which programs run: a container's, a machine's."""

    def __init__(self, prefix: Sequence[str]) -> None:
        # Before other work of the machine.
        self._prefix = ["nice", "-n", "-12", *prefix]

    @classmethod
    def of(cls, daemon: Daemon, container: str) -> Place:
        """A container's."""
        pid = daemon.api.get(f"/containers/{container}/json")["State"]["Pid"]
        return cls(["nsenter", "-t", str(pid), "-n", "--"])

    def run(self, *argv: str, timeout: float = 120) -> str:
        """A program's output."""
        return subprocess.run(
            [*self._prefix, *argv], capture_output=True, text=True, timeout=timeout, check=True
        ).stdout

    @contextlib.contextmanager
    def serve(self) -> Iterator[None]:
        """The servers of both measurements."""
        commands = (["iperf3", "-s", "-p", str(_IPERF)], [sys.executable, str(_SERVER), str(_HTTP)])
        with ExitStack() as stack:
            for command in commands:
                program = subprocess.Popen([*self._prefix, *command], stdout=subprocess.DEVNULL)
                stack.callback(program.wait)
                stack.callback(program.terminate)
                stack.callback(_servers.remove, program.pid)
                _servers.append(program.pid)
            wait_until(self._listens, "the servers listen")
            yield

    def _listens(self) -> bool:
        listening = self.run("ss", "-Hltn")
        return f":{_IPERF} " in listening and f":{_HTTP} " in listening


@dataclass(frozen=True)
class Path:
    """From where to where."""

    client: Place
    address: str
    iperf: int = _IPERF
    http: int = _HTTP

    def measure(self, seconds: int) -> dict[str, float]:
        """Throughput, and requests a second on kept connections and on one each; then what 64 KiB, a request and a
        connection cost.
        """
        before = processor_time.used(_servers)
        sent = self.client.run("iperf3", "-J", "-c", self.address, "-p", str(self.iperf), "-t", str(seconds))
        received = json.loads(sent)["end"]["sum_received"]
        cost = (processor_time.used(_servers) - before) / (received["bytes"] / 65536)
        requests, request_cost = self._requests(seconds)
        connections, connection_cost = self._requests(seconds, "-H", "Connection: close")
        return {
            "gbit_per_second": received["bits_per_second"] / 1e9,
            "requests_per_second": requests,
            "connections_per_second": connections,
            "microseconds_per_64_kib": cost * 1e6,
            "microseconds_per_request": request_cost * 1e6,
            "microseconds_per_connection": connection_cost * 1e6,
        }

    def _requests(self, seconds: int, *more: str) -> tuple[float, float]:
        before = processor_time.used(_servers)
        target = f"http://{self.address}:{self.http}/"
        output = self.client.run("wrk", "-t1", "-c16", f"-d{seconds}s", *more, target)
        cost = processor_time.used(_servers) - before
        lines = [line.split() for line in output.splitlines() if line.strip()]
        (rate,) = (float(line[1]) for line in lines if line[0] == "Requests/sec:")
        (number,) = (int(line[0]) for line in lines if line[1:3] == ["requests", "in"])
        return rate, cost / number


Figures = dict[str, dict[str, float]]


def best(paths: dict[str, Path], rounds: int, seconds: int) -> Figures:
    """The best of each path, in rounds: what else the machine does hits all alike."""
    found: Figures = {what: {} for what in paths}
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
        for what, path in paths.items():
            for key, value in path.measure(seconds).items():
                better = min if key.startswith("microseconds") else max
                found[what][key] = better(value, found[what].get(key, value))
    return found


@contextlib.contextmanager
def veth_pair() -> Iterator[Path]:
    """Two namespaces and a cable: what there is to lose."""
    with NetworkNamespace(f"bn-{os.getpid()}-a") as one, NetworkNamespace(f"bn-{os.getpid()}-b") as two:
        one.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", two.name)
        for number, namespace in enumerate((one, two), 1):
            namespace.ip("address", "add", f"192.0.2.{number}/24", "dev", "eth0")
            namespace.ip("link", "set", "eth0", "up")
        with Place(two.argv()).serve():
            yield Path(Place(one.argv()), "192.0.2.2")


@contextlib.contextmanager
def daemons(which: str) -> Iterator[dict[str, Path]]:
    """Containers on two machines of one swarm."""
    with tempfile.TemporaryDirectory(prefix="bn-", dir="/var/tmp") as directory, Lan("bn") as lan, ExitStack() as stack:
        root = pathlib.Path(directory)
        sample_image.build(root / "image.tar")
        image = (root / "image.tar").read_bytes()
        hosts = [lan.attach(), lan.attach()]
        for namespace in (lan.switch, *(host.host for host in hosts)):
            # As where br_netfilter is a module that nobody loaded: bridged packets do not pass the firewall.
            namespace.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
        made = [stack.enter_context(DAEMONS[which](root / host.hostname, host)) for host in hosts]
        for daemon in made:
            daemon.api.post("/images/load", image)
            stack.callback(daemon.leave_no_container)
        _form(made, hosts)
        network = made[0].api.post("/networks/create", {"Name": "app", "Driver": "overlay", "Attachable": True})["Id"]
        services = {"same machine": ("near", 0), "other machine": ("far", 1)}
        paths: dict[str, Path] = {}
        client = None
        for what, (name, where) in services.items():
            server, address = _service(made, hosts, name, where, network)
            stack.enter_context(server.serve())
            client = client or _container(made[0], "client", network)
            paths[f"container to container, {what}"] = Path(client, address)
            if which == "enxamed":
                vip, iperf, http = _published(made[0], name, network)
                paths[f"virtual address, {what}"] = Path(client, vip)
                far = lan.hosts[2] if len(lan.hosts) > 2 else lan.attach()
                paths[f"mesh, {what}"] = Path(Place(far.host.argv()), hosts[0].host_address, iperf, http)
        if which == "enxamed":
            stack.enter_context(Place(hosts[0].host.argv()).serve())
            outside = Place(lan.hosts[2].host.argv())
            paths["outside to a process of the machine"] = Path(outside, hosts[0].host_address)
            for what, (inside, address) in stack.enter_context(plain_routes(lan, lan.hosts[2])).items():
                stack.enter_context(Place(inside.argv()).serve())
                paths[f"only routed, {what}"] = Path(outside, address)
        yield paths


def _published(daemon: Daemon, name: str, network: str) -> tuple[str, int, int]:
    """A service's virtual address, and the ports that lead to its servers."""
    endpoint = daemon.api.get(f"/services/{name}")["Endpoint"]
    vips = {vip["NetworkID"]: vip["Addr"].partition("/")[0] for vip in endpoint["VirtualIPs"]}
    ports = {port["TargetPort"]: port["PublishedPort"] for port in endpoint["Ports"]}
    return vips[network], ports[_IPERF], ports[_HTTP]


def _form(made: Sequence[Daemon], hosts: Sequence[LanHost]) -> None:
    address = f"{hosts[0].host_address}:2377"
    made[0].api.post("/swarm/init", {"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": address})
    token = made[0].api.get("/swarm")["JoinTokens"]["Worker"]
    made[1].api.post(
        "/swarm/join",
        {
            "ListenAddr": "0.0.0.0:2377",
            "AdvertiseAddr": f"{hosts[1].host_address}:2377",
            "RemoteAddrs": [address],
            "JoinToken": token,
        },
    )
    wait_until(
        lambda: [node["Status"]["State"] for node in made[0].api.get("/nodes")] == ["ready"] * 2, "both are ready"
    )


def _service(
    made: Sequence[Daemon], hosts: Sequence[LanHost], name: str, where: int, network: str
) -> tuple[Place, str]:
    """A task on that machine, and its address."""
    base = _PUBLISHED + 10 * where
    ports = [{"TargetPort": _IPERF, "PublishedPort": base}, {"TargetPort": _HTTP, "PublishedPort": base + 1}]
    template = {
        "ContainerSpec": {"Image": sample_image.DEFAULT_TAG},
        "Networks": [{"Target": network}],
        "Placement": {"Constraints": [f"node.hostname=={hosts[where].hostname}"]},
    }
    spec = {"Name": name, "TaskTemplate": template, "EndpointSpec": {"Ports": ports}}
    made[0].api.post("/services/create", {**spec, "Mode": {"Replicated": {"Replicas": 1}}})

    def running() -> list[dict[str, Any]]:
        tasks = made[0].api.get("/tasks", filters={"service": [name]})
        return [task for task in tasks if task["Status"]["State"] == "running"]

    (task,) = wait_until(running, f"{name} runs")
    (attachment,) = [item for item in task["NetworksAttachments"] if item["Network"]["ID"] == network]
    place = Place.of(made[where], task["Status"]["ContainerStatus"]["ContainerID"])
    return place, attachment["Addresses"][0].partition("/")[0]


def _container(daemon: Daemon, name: str, network: str) -> Place:
    body = {"Image": sample_image.DEFAULT_TAG, "HostConfig": {"NetworkMode": network}}
    container = daemon.api.post("/containers/create", body, name=name)["Id"]
    daemon.api.post(f"/containers/{container}/start")
    return Place.of(daemon, container)


def table(found: Figures) -> str:
    """To read."""
    heads = ("Gbit/s", "requests/s", "connections/s", "µs/64 KiB", "µs/request", "µs/connection")
    lines = [f"{'':<50}" + "".join(f"{head:>{len(head) + 2}}" for head in heads)]
    for what, row in found.items():
        figures = zip(heads, row.values(), (2, 0, 0, 1, 2, 0), strict=True)
        lines.append(f"{what:<50}" + "".join(f"{value:>{len(head) + 2}.{digits}f}" for head, value, digits in figures))
    return "\n".join(lines)


def main() -> None:
    """Print tables, and everything as JSON at the end."""
    parser = argparse.ArgumentParser(prog="bench.network", description=__doc__)
    parser.add_argument("--seconds", type=int, default=1, help="of each measurement (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many is shown (default 5)")
    parser.add_argument("--without-dockerd", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("namespaces need root")
    with ExitStack() as stack:
        paths = {"bare veth pair": stack.enter_context(veth_pair()), **stack.enter_context(daemons("enxamed"))}
        if not options.without_dockerd:
            docker = stack.enter_context(daemons("dockerd"))
            paths |= {f"dockerd: {what}": path for what, path in docker.items()}
        packets = best(paths, options.rounds, options.seconds)
    print(table(packets), flush=True)
    rules = uvloop.run(measure_rules())
    print(json.dumps(rules, indent=1), flush=True)
    lab = Lab()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        try:
            names = uvloop.run(name_resolution.measure(lab, pathlib.Path(directory)))
        finally:
            lab.close()
    print(json.dumps({"packets": packets, "rules": rules, "names": names}, indent=1))


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
