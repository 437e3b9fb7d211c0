"""The text of our nftables table, as pure functions.

One table, ``inet enxame``, holds everything and is replaced as a whole only when the daemon starts; later only
elements and the chains of published services change. The chain that users may fill is in a table of its own,
``inet enxame-user``, which we make when it is missing and never touch again. A ``drop`` there is final::

    nft add rule inet enxame-user forward meta l4proto tcp ct original proto-dst 8080 ip saddr != 192.0.2.0/24 drop

A packet's way: ``arriving`` and ``departing`` leave untracked what is tracked elsewhere: the packets around others
between machines, and frames that only cross a bridge (a kernel with br_netfilter shows them to this table, too; here,
a connection that entered the mesh at another machine would look like one that entered at this one). Frames for an
address of this machine are tracked all the same: such a kernel bridges what a container sends to its own network's
published port, translated, and so it is for the bridge to translate the answers.
``prerouting``/``output`` send what goes to a published port of this machine to a container
(services first, then container ports of one address, then of any address). What a link-local IPv6 address or ::1 sends
cannot be sent on: it is left to the relay. ``forward`` admits what was sent so,
answers, and what containers begin; it keeps networks apart. ``postrouting`` hides the client's address only where
answers could not find their way back otherwise: connections to 127.0.0.1, a container reaching its own network's
published port, one on a swarm network reaching any port of the mesh (it may reach itself, by another of its addresses),
and containers talking to other machines.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from enxame.network.bridge import Bridge

TABLE: Final = "inet enxame"

_USER_TABLE: Final = """\
add table inet enxame-user
add chain inet enxame-user forward { type filter hook forward priority filter - 1; policy accept; }
"""

_TABLE: Final = """\
add table inet enxame
delete table inet enxame
table inet enxame {
  comment "enxame: replaced when the daemon starts; your own rules go to inet enxame-user"
  set bridges { type ifname; }
  set gateways { type ifname . ether_addr; }
  set tunnels { type inet_service; }
  set internal { type ifname; }
  set within { type ifname . ifname; }
  set local_sources { type ifname . ipv4_addr; flags interval; }
  set masqueraded { type ipv4_addr; flags interval; }
  set swarm { type ifname; }
  set swarm_sources { type ipv4_addr; flags interval; }
  set swarm_sources6 { type ipv6_addr; flags interval; }
  set local_sources6 { type ifname . ipv6_addr; flags interval; }
  set masqueraded6 { type ipv6_addr; flags interval; }
  map published { type inet_proto . inet_service : ipv4_addr . inet_service; }
  map published_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
  map published6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
  map published6_at { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
  map services { type inet_proto . inet_service : verdict; }
  set unserved { type inet_proto . inet_service; }

  chain arriving {
    type filter hook prerouting priority raw; policy accept;
    udp dport @tunnels fib daddr type local notrack accept
    ip daddr 127.0.0.0/8 iifname @bridges drop
    iifname "enx-*" iifname . ether daddr != @gateways jump crossing
  }
  chain crossing {
    ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 fib daddr type != local notrack
  }
  chain departing {
    type filter hook output priority raw; policy accept;
    udp dport @tunnels notrack accept
  }
  chain publish {
    ip6 saddr { ::1, fe80::/10 } return
    ip6 daddr ::1 return
    meta l4proto . th dport vmap @services
    dnat ip to ip daddr . meta l4proto . th dport map @published_at
    meta nfproto ipv4 dnat ip to meta l4proto . th dport map @published
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @published6_at
    meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @published6
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump publish
  }
  chain output {
    type nat hook output priority -100; policy accept;
    fib daddr type local jump publish
  }
  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject
  }
  chain input {
    type filter hook input priority filter; policy accept;
    ct state established,related,untracked accept
    meta l4proto . th dport @unserved jump refuse
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    iifname . oifname @within accept
    oifname @bridges ct status dnat accept
    oifname @bridges drop
    iifname @internal drop
    iifname @bridges accept
%(router)s  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname . ip saddr @local_sources ct status dnat masquerade
    oifname @swarm ip saddr @swarm_sources ct status dnat masquerade
    oifname @swarm ip6 saddr @swarm_sources6 ct status dnat masquerade
    oifname . ip6 saddr @local_sources6 ct status dnat masquerade
    oifname @bridges ip saddr 127.0.0.0/8 masquerade
    oifname @bridges return
    ip saddr @masqueraded masquerade
    ip6 saddr @masqueraded6 masquerade
  }
}
"""


def table(*, forward_others: bool, forward_others6: bool = True) -> str:
    """The whole table, empty of networks and ports, replacing the one before in the same transaction.

    ``forward_others``: packets that have nothing to do with containers pass (``forward_others6``: of IPv6). False where
    this daemon was the one who switched forwarding on: the machine was no router before and does not become one.
    """
    router = "" if forward_others else "    meta nfproto ipv4 drop\n"
    router += "" if forward_others6 else "    meta nfproto ipv6 drop\n"
    return _USER_TABLE + _TABLE % {"router": router}


def add_bridge(bridge: Bridge) -> str:
    """The elements of a network; one without a bridge has none."""
    text = _bridge_elements("add", bridge)
    return text if bridge.tunnel is None else text + change("add", "tunnels", [str(bridge.tunnel.port)])


def delete_bridge(bridge: Bridge, remaining: Iterable[Bridge] = ()) -> str:
    """Undo :func:`add_bridge`, where these other bridges remain."""
    # Elements are there unless another change of these moments has deleted them: then they are added for the sake of
    # the deletion, which would fail as a whole otherwise.
    text = _bridge_elements("add", bridge) + _bridge_elements("delete", bridge)
    tunnel = bridge.tunnel
    if tunnel is None or any(other.tunnel is not None and other.tunnel.port == tunnel.port for other in remaining):
        return text
    port = [str(tunnel.port)]
    return text + change("add", "tunnels", port) + change("delete", "tunnels", port)


def _bridge_elements(verb: str, bridge: Bridge) -> str:
    if bridge.parent:
        return ""
    name = f'"{bridge.name}"'
    networks = [str(network) for network in bridge.subnets(4)]
    networks6 = [str(network) for network in bridge.subnets(6)]
    lines = [
        change(verb, "bridges", [name]),
        change(verb, "gateways", [f"{name} . {bridge.own_mac.hex(':')}"]),
        change(verb, "local_sources", [f"{name} . {network}" for network in networks]),
        change(verb, "local_sources6", [f"{name} . {network}" for network in networks6]),
    ]
    if not bridge.isolated:
        lines.append(change(verb, "within", [f"{name} . {name}"]))
    if bridge.internal:
        lines.append(change(verb, "internal", [name]))
    elif bridge.masquerade:
        lines += [change(verb, "masqueraded", networks), change(verb, "masqueraded6", networks6)]
    if bridge.tunnel is not None:
        lines += [
            change(verb, "swarm", [name]),
            change(verb, "swarm_sources", networks),
            change(verb, "swarm_sources6", networks6),
        ]
    return "".join(lines)


def change(verb: str, set_name: str, elements: Iterable[str]) -> str:
    """``verb`` (add, delete) elements of a set or map; empty when there are none."""
    body = ", ".join(elements)
    return f"{verb} element {TABLE} {set_name} {{ {body} }}\n" if body else ""
