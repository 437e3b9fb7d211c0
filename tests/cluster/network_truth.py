"""Whether machines' tunnels lead to the containers that run, and to nothing else."""

import json
from collections import Counter
from collections.abc import Sequence

from enxame.testing.cluster import Machine

Endpoint = tuple[str, str, str]  # network, address, link address


def endpoints(machine: Machine) -> list[Endpoint]:
    """Of the containers that run on a machine, on the swarm's networks."""
    swarm = {network["Id"] for network in machine.api.get("/networks", filters={"scope": ["swarm"]})}
    found = []
    for container in machine.api.get("/containers/json"):
        for settings in container["NetworkSettings"]["Networks"].values():
            if settings["NetworkID"] in swarm:
                both = (settings["IPAddress"], settings["GlobalIPv6Address"])
                found += [(settings["NetworkID"], address, settings["MacAddress"]) for address in both if address]
    return found


def given_twice(machines: Sequence[Machine]) -> list[tuple[str, str]]:
    """Addresses on a network that several containers have."""
    count = Counter((network, address) for machine in machines for network, address, _ in endpoints(machine))
    return [place for place, times in count.items() if times > 1]


def untruths(machines: Sequence[Machine]) -> list[str]:
    """What tunnels know and is not so, and what they do not know and should; empty when all is exact."""
    there = {machine: endpoints(machine) for machine in machines}
    links = {machine: json.loads(machine.network.host.run("ip", "-j", "link")) for machine in machines}
    bridges = {
        machine: {link["ifname"]: link["address"] for link in found if link["ifname"].startswith("enx-")}
        for machine, found in links.items()
    }
    found: list[str] = []
    for machine in machines:
        for link in links[machine]:
            if link["ifname"].startswith("enxt-"):
                found += _untruths(machine, link["ifname"], there, bridges)
    return found


def _untruths(
    machine: Machine, tunnel: str, there: dict[Machine, list[Endpoint]], bridges: dict[Machine, dict[str, str]]
) -> list[str]:
    short, bridge = tunnel.removeprefix("enxt-"), tunnel.replace("enxt-", "enx-")
    frames: set[tuple[str, str]] = set()
    questions: set[tuple[str, str]] = set()
    for other, theirs in there.items():
        if other is not machine and bridge in bridges[other]:
            mine = [(address, mac) for network, address, mac in theirs if network.startswith(short)]
            frames |= {(mac, other.network.host_address) for mac in (bridges[other][bridge], *(mac for _, mac in mine))}
            questions.update(mine)
    run = machine.network.host.run
    known = json.loads(run("bridge", "-j", "fdb", "show", "dev", tunnel))
    led = {(entry["mac"], entry["dst"]) for entry in known if "dst" in entry}
    neighbours = json.loads(run("ip", "-j", "neigh", "show", "dev", tunnel, "nud", "permanent"))
    answered = {(entry["dst"], entry["lladdr"]) for entry in neighbours if not entry["dst"].startswith(("ff", "224"))}
    where = f"{machine.network.hostname} {tunnel}"
    return [
        f"{where}: {what} {entry}"
        for what, entries in (
            ("leads wrongly", led - frames),
            ("does not lead", frames - led),
            ("answers wrongly", answered - questions),
            ("does not answer", questions - answered),
        )
        for entry in sorted(entries)
    ]
