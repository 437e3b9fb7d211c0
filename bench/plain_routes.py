"""What the mesh's hops cost by themselves: the same way, through machines that only route and have no packet filter."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import ExitStack

from enxame.testing.namespace import Lan, LanHost, NetworkNamespace, run

_NETWORK = "10.77.0"
_OVERHEAD = 50


@contextlib.contextmanager
def plain_routes(lan: Lan, client: LanHost) -> Iterator[dict[str, tuple[NetworkNamespace, str]]]:
    """Two machines with a bridge each and a VXLAN between them, a namespace behind each bridge, and the client's route
    to both through the first: namespaces and their addresses, by where they are.
    """
    with ExitStack() as stack:
        machines = (lan.attach(), lan.attach())
        client.host.ip("route", "add", f"{_NETWORK}.0/24", "via", machines[0].host_address)
        found: dict[str, tuple[NetworkNamespace, str]] = {}
        for number, (machine, where) in enumerate(zip(machines, ("same machine", "other machine"), strict=True)):
            inside = stack.enter_context(NetworkNamespace(f"bn-{os.getpid()}-plain{number}"))
            address = f"{_NETWORK}.{10 + number}"
            _bridge(machine, machines[1 - number])
            peer = ("peer", "name", "eth0", "mtu", str(1500 - _OVERHEAD), "netns", inside.name)
            machine.host.ip("link", "add", "inside", "mtu", str(1500 - _OVERHEAD), "type", "veth", *peer)
            machine.host.ip("link", "set", "inside", "master", "plain", "up")
            inside.ip("address", "add", f"{address}/24", "dev", "eth0")
            inside.ip("link", "set", "eth0", "up")
            inside.ip("route", "add", "default", "via", f"{_NETWORK}.1")
            found[where] = inside, address
        machines[0].host.ip("address", "add", f"{_NETWORK}.1/24", "dev", "plain")
        machines[0].host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        yield found


def _bridge(machine: LanHost, other: LanHost) -> None:
    add = ("ip", "-n", machine.host.name, "link", "add")
    mtu = ("mtu", str(1500 - _OVERHEAD))
    run(*add, "plain", *mtu, "type", "bridge")
    ends = ("local", machine.host_address, "remote", other.host_address, "dstport", "4789")
    run(*add, "tunnel", *mtu, "type", "vxlan", "id", "77", *ends)
    machine.host.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
    machine.host.ip("link", "set", "tunnel", "master", "plain", "up")
    machine.host.ip("link", "set", "plain", "up")
