"""The private network of a store's local machines: a bridge of this host, its subnet, a way out, published ports.

Subnet and ports are kept in a file, since they must be the same after a reboot; ``ensure`` and ``set_rules`` make what
is missing in the kernel.
"""

import hashlib
import ipaddress
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from enxame.machine.errors import MachineError
from enxame.machine.programs import run
from enxame.machine.store import write_file

#: Where subnets come from: docker-machine's classic one first.
_POOL: Final = [ipaddress.IPv4Network(f"192.168.{number}.0/24") for number in range(99, 200)]
#: The first machine's number in the subnet, as VirtualBox's DHCP server gave it.
_FIRST: Final = 100
_LAST: Final = 254


class Port(msgspec.Struct, frozen=True, rename="pascal"):
    """A port of this host that leads to port ``target`` of the machines at ``addresses``, in turn."""

    owner: str
    port: int
    target: int
    protocol: str
    addresses: list[str]


class LocalNetwork:
    """One a store. Callers hold the store's lock ``network``."""

    def __init__(self, store: Path) -> None:
        self._file = store / "local-network.json"
        self._id = hashlib.sha256(str(store).encode()).hexdigest()[:8]
        self.bridge = f"enxame-{self._id}"
        self.table = f"enxame-machines-{self._id}"

    @property
    def subnet(self) -> ipaddress.IPv4Network | None:
        """None before the first machine."""
        text = self._load().get("Subnet")
        return ipaddress.IPv4Network(text) if text else None

    def _load(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._file.read_text()))
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as problem:
            raise MachineError(f"{self._file}: {problem}") from None

    def _save(self, change: dict[str, Any]) -> None:
        write_file(self._file, json.dumps({**self._load(), **change}, indent=4).encode())

    def link(self, machine: str) -> str:
        """The host's end of a machine's cable."""
        return f"enxm{hashlib.sha256(f'{self._id}/{machine}'.encode()).hexdigest()[:10]}"

    def ensure(self) -> ipaddress.IPv4Network:
        """The bridge and its subnet. Raises MachineError when there is no free subnet or the kernel refuses."""
        subnet = self.subnet or self._choose()
        links = {link["ifname"]: link for link in json.loads(run(["ip", "-json", "address", "show"]) or "[]")}
        gateway = f"{subnet[1]}/{subnet.prefixlen}"
        lines = []
        if self.bridge not in links:
            lines.append(f"link add {self.bridge} type bridge forward_delay 0")
        if not any(info.get("local") == str(subnet[1]) for info in links.get(self.bridge, {}).get("addr_info", ())):
            lines.append(f"address add {gateway} dev {self.bridge}")
        if lines:
            run(["ip", "-batch", "-"], stdin="\n".join([*lines, f"link set {self.bridge} up", ""]))
        return subnet

    def _choose(self) -> ipaddress.IPv4Network:
        taken = _networks_in_use()
        for subnet in _POOL:
            if not any(subnet.overlaps(other) for other in taken):
                self._save({"Subnet": str(subnet)})
                return subnet
        raise MachineError(f"no free subnet for local machines between {_POOL[0]} and {_POOL[-1]}")

    def free_address(self, taken: Iterable[str]) -> str:
        """An address for one more machine."""
        subnet, used = self.ensure(), set(taken)
        for number in range(_FIRST, _LAST + 1):
            if str(subnet[number]) not in used:
                return str(subnet[number])
        raise MachineError(f"all addresses of {subnet} are taken: remove machines that are not used any more")

    def plug_in(self, machine: str, pid: int) -> None:
        """Lays a cable from the bridge to ``eth0`` in the namespace of process ``pid``."""
        link = self.link(machine)
        self.unplug(machine)
        commands = [
            f"link add {link} type veth peer name eth0 netns {pid}",
            f"link set {link} master {self.bridge} up",
            "",
        ]
        run(["ip", "-batch", "-"], stdin="\n".join(commands))

    def unplug(self, machine: str) -> None:
        """Takes the cable away, if there is one."""
        _delete_link(self.link(machine))

    def inside(self, address: str, *, outside: bool) -> list[str]:
        """The lines for ``ip -batch`` in the machine."""
        subnet = self.ensure()
        lines = ["link set lo up", f"address add {address}/{subnet.prefixlen} dev eth0", "link set eth0 up"]
        return [*lines, f"route add default via {subnet[1]}"] if outside else lines

    def publish(self, owner: str, ports: Sequence[Port]) -> None:
        """Ports of this host that lead to machines, in place of those that ``owner`` had."""
        others = [port for port in self._published() if port.owner != owner]
        taken = {(port.protocol, port.port): port.owner for port in others}
        for port in ports:
            if (port.protocol, port.port) in taken:
                whose = taken[port.protocol, port.port]
                raise MachineError(f"port {port.port}/{port.protocol} of this host is published by cluster {whose}")
        self._save({"Published": [msgspec.to_builtins(port) for port in [*others, *ports]]})
        self.set_rules()

    def _published(self) -> list[Port]:
        return msgspec.convert(self._load().get("Published", []), list[Port])

    def set_rules(self) -> None:
        """The way out and the published ports, as a whole."""
        subnet = self.ensure()
        forward = Path("/proc/sys/net/ipv4/ip_forward")
        if forward.read_text().strip() != "1":
            forward.write_text("1")
        published = self._published()
        if published:
            # Lets what comes from 127.0.0.1 be sent on.
            Path(f"/proc/sys/net/ipv4/conf/{self.bridge}/route_localnet").write_text("1")
        rules = "\n    ".join(_port_rule(port) for port in published)
        text = _RULESET.format(table=self.table, subnet=subnet, bridge=self.bridge, ports=rules)
        run(["nft", "-f", "-"], stdin=text)

    def remove(self) -> None:
        """Takes all of it back; for when there are no machines any more."""
        _delete_link(self.bridge)
        run(["nft", "-f", "-"], stdin=f"table ip {self.table}\ndelete table ip {self.table}\n")
        self._file.unlink(missing_ok=True)


_RULESET: Final = """
table ip {table}
delete table ip {table}
table ip {table} {{
  chain ports {{
    {ports}
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname != {bridge} fib daddr type local jump ports
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    fib daddr type local jump ports
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname {bridge} ip saddr 127.0.0.0/8 masquerade
    ip saddr {subnet} oifname != {bridge} masquerade
  }}
}}
"""


def _port_rule(port: Port) -> str:
    choices = ", ".join(f"{number} : {address} . {port.target}" for number, address in enumerate(port.addresses))
    return f"{port.protocol} dport {port.port} dnat ip to numgen inc mod {len(port.addresses)} map {{ {choices} }}"


def _delete_link(name: str) -> None:
    """Also when the kernel, which ends a namespace a little later than its processes, takes the link away meanwhile."""
    if name not in _link_names():
        return
    try:
        run(["ip", "link", "delete", name])
    except MachineError:
        if name in _link_names():
            raise


def _link_names() -> set[str]:
    return {link["ifname"] for link in json.loads(run(["ip", "-json", "link", "show"]) or "[]")}


def _networks_in_use() -> list[ipaddress.IPv4Network]:
    """Of the addresses and routes of this host; the default route is none."""
    found = []
    for route in json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]"):
        try:
            found.append(ipaddress.IPv4Network(route.get("dst", "default"), strict=False))
        except ValueError:
            continue
    return found
