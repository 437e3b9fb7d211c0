"""Encrypts what leaves through tunnels of encrypted networks, and lets in nothing of them that was not encrypted.

Packets of those networks are marked by their VXLAN ids; a policy for each machine demands ESP of what is marked. The
rules are a table of their own, which outlives the daemon: no packet leaves in the clear while it restarts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from enxame.network import xfrm
from enxame.network.netlink import NetlinkError, NetlinkSocket, Request
from enxame.network.rtnetlink import Address
from enxame.network.xfrm import Key, State

TABLE: Final = "inet enxame-encryption"
_PROBE: Final = (IPv4Address("192.0.2.254"), IPv4Address("192.0.2.253"), Key(0, bytes(32)))


@dataclass(frozen=True, slots=True)
class Wanted:
    """``ids`` are VXLAN ids; ``machines`` who is on their networks, too; ``keys`` oldest first."""

    local: Address
    port: int
    ids: frozenset[int]
    machines: frozenset[Address]
    keys: tuple[Key, ...]

    def states(self) -> dict[State, Key]:
        """Both directions to every machine, with every key."""
        return {
            xfrm.state_of(source, target, key): key
            for machine in self.machines
            for source, target in ((self.local, machine), (machine, self.local))
            for key in self.keys
        }

    def policies(self) -> dict[tuple[Address, Address, int], State]:
        """The state that encrypts towards each machine: with the last key but one, which all know by now."""
        if not self.keys:
            return {}
        sending = self.keys[-2] if len(self.keys) > 1 else self.keys[-1]
        return {
            (self.local, machine, self.port): xfrm.state_of(self.local, machine, sending) for machine in self.machines
        }


def problem(kernel: NetlinkSocket) -> str:
    """Why this machine's kernel cannot encrypt; empty when it can. It is really tried. Blocks."""
    source, target, key = _PROBE
    state = xfrm.state_of(source, target, key)
    try:
        kernel.execute([xfrm.add_state(state, key)])
    except NetlinkError as error:
        reason = error.message.rpartition(": ")[2]
        return f"this machine's kernel has no ESP with AES-GCM ({reason})"
    kernel.execute([xfrm.delete_state(state)])
    return ""


def corrections(
    have_states: Iterable[State], have_policies: Iterable[tuple[Address, Address, int]], wanted: Wanted
) -> list[Request]:
    """What makes the kernel encrypt as wanted. Pure.

    Machines understand a key before anybody uses it, and until nobody does any more: states come first, policies then,
    and what is wanted no more goes last.
    """
    states, policies = wanted.states(), wanted.policies()
    have, ruled = set(have_states), set(have_policies)
    return [
        *(xfrm.add_state(state, key) for state, key in states.items() if state not in have),
        *(xfrm.set_policy(state, port) for (_, _, port), state in policies.items()),
        *(xfrm.delete_policy(*place) for place in ruled - policies.keys()),
        *(xfrm.delete_state(state) for state in have - states.keys()),
    ]


def program(kernel: NetlinkSocket, wanted: Wanted) -> None:
    """Make it so. Blocks.

    Raises:
        NetlinkError: the kernel refuses.
    """
    states = [xfrm.parse_state(body) for body in kernel.dump(xfrm.list_states())]
    policies = [xfrm.parse_policy(body) for body in kernel.dump(xfrm.list_policies())]
    kernel.execute(
        corrections(
            [state for state in states if state is not None],
            [policy for policy in policies if policy is not None],
            wanted,
        )
    )


def rules(ids: Iterable[int], port: int) -> str:
    """The table, replacing the one before; no table without ids. Pure."""
    text = f"add table {TABLE}\ndelete table {TABLE}\n"
    numbers = sorted(ids)
    if not numbers:
        return text
    leaving = "".join(f"    {_packet(port, number)} meta mark set {xfrm.MARK:#x}\n" for number in numbers)
    coming = "".join(f"    {_packet(port, number)} meta ipsec missing drop\n" for number in numbers)
    return (
        f"{text}table {TABLE} {{\n"
        "  chain leaving {\n    type route hook output priority mangle; policy accept;\n"
        f"{leaving}  }}\n"
        "  chain coming {\n    type filter hook input priority filter - 1; policy accept;\n"
        f"{coming}  }}\n"
        "}\n"
    )


def _packet(port: int, number: int) -> str:
    """A tunnel's packet, by the id behind the UDP header and four bytes of VXLAN's."""
    return f"udp dport {port} @th,96,24 {number:#x}"
