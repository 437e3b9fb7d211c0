"""The program, its maps and where it is attached; and which connections it knows. Everything blocks shortly: for one
worker thread, which is in the machine's network namespace.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections import OrderedDict
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Final

from enxame.errors import EnxameError
from enxame.network import nft_messages, rtnetlink, xfrm
from enxame.network.netlink import NETFILTER, NetlinkError, NetlinkSocket, Request, parse_attributes
from enxame.network.rtnetlink import Address
from enxame.network.shortcuts import attaching, bpf, connections, flow, program
from enxame.network.shortcuts.flow import Flow

#: Connections at a time: about 250 bytes each in the kernel, 800 here. Who was first leaves when there are more.
MOST_FLOWS: Final = 16384
#: Seconds after which a connection goes the long way until it proves busy once more: so tracking sees that it lives,
#: and the kernel asks whether the neighbours that it sends to are still there.
LONGEST: Final = 60.0
#: Seconds for which who is gone is not believed to be back: tracking forgets it in the meantime.
_MOURNING: Final = 10.0
#: Connections looked at in one go, two tenths of a millisecond each.
_TURN: Final = 64
_MOST_PORTS: Final = 65536
_RING: Final = 1 << 16

_GET_ROUTING_RULE: Final = 34
_RULE_MARK: Final = 10
_RULE_HEADER: Final = 12
_XFRM_GET_SPDINFO: Final = 0x25
_XFRM_SPD_INFO: Final = 1
_ETHERNET_ADDRESS: Final = len("00:00:00:00:00:00")

_TRACKING: Final = Path("/proc/sys/net/netfilter")
#: Seconds that tracking waits for a packet of a connection: of an idle one, and of one that seems to hang.
_IDLE: Final = "nf_conntrack_tcp_timeout_established"
_PATIENCE: Final = (
    _IDLE,
    "nf_conntrack_tcp_timeout_unacknowledged",
    "nf_conntrack_tcp_timeout_max_retrans",
)


class KernelSide:
    """Open from the constructor on.

    Attributes:
        obstacle: why nothing may take a shortcut; empty when it may. As the last look around found it.

    Raises:
        BpfError, NetlinkError: the kernel cannot, or may not.
        OSError: tracking cannot be told how to behave.
    """

    def __init__(self) -> None:
        self.obstacle = ""
        self._flows: OrderedDict[Flow, float] = OrderedDict()
        self._fresh: list[Flow] = []
        self._gone: dict[Address, float] = {}
        self._idle = 0
        self._longest = LONGEST
        self._ports: frozenset[int] = frozenset()
        with contextlib.ExitStack() as undo:

            def keep(descriptor: int) -> int:
                undo.callback(os.close, descriptor)
                return descriptor

            self._maps = program.Maps(
                flows=keep(bpf.hash_map(flow.KEY.size, flow.VALUE.size, 2 * MOST_FLOWS)),
                ports=keep(bpf.hash_map(2, 1, _MOST_PORTS)),
                ring=keep(bpf.ring_buffer(_RING)),
            )
            self._program = keep(bpf.load_classifier(program.program(self._maps)))
            self._reader = bpf.RingReader(self._maps.ring, _RING)
            undo.callback(self._reader.close)
            self._tracking = NetlinkSocket(NETFILTER)
            undo.callback(self._tracking.close)
            self._routes = NetlinkSocket()
            undo.callback(self._routes.close)
            self._attachments = attaching.attachments(self._program, self._routes)
            undo.callback(self._detach)
            _let_resets_pass()
            self._learn_patience()
            self._undo = undo.pop_all()

    @property
    def ring(self) -> int:
        """A descriptor that is readable when :meth:`take` has something to do."""
        return self._maps.ring

    @property
    def flows(self) -> Collection[Flow]:
        """What is known; connections that have ended are among them for a while."""
        return self._flows.keys()

    def close(self) -> None:
        """Detach: everything goes the long way again. Idempotent."""
        self._detach()
        for item in self._flows:
            self._reassure(item)
        self._flows.clear()
        self._undo.close()

    def set_ports(self, ports: frozenset[int]) -> None:
        """Where connections may become busy."""
        for port in self._ports - ports:
            bpf.delete(self._maps.ports, port.to_bytes(2, "big"))
        for port in ports - self._ports:
            bpf.update(self._maps.ports, port.to_bytes(2, "big"), b"\1")
        self._ports = ports

    def look_around(self, now: float) -> None:
        """Attach to links that have come, forget those that are gone, see whether shortcuts may be taken at all.
        ``now`` is monotonic.
        """
        links = [rtnetlink.parse_link(body) for body in self._routes.dump(rtnetlink.list_links())]
        # Ports of a bridge or a bond leave it to their master; what has no such address has no Ethernet header.
        fitting = {
            link.index
            for link in links
            if link.up and not link.master and link.index != 1 and len(link.mac) == _ETHERNET_ADDRESS
        }
        attached = set(self._attachments.links)
        for index in attached - fitting:
            self._attachments.detach(index)
        for index in fitting - attached:
            with contextlib.suppress(EnxameError):  # gone meanwhile, or of a kind that takes no programs
                self._attachments.attach(index)
        self._learn_patience()
        self.obstacle = self._find_obstacle()
        if self.obstacle:
            self._drop(list(self._flows))
        self._gone = {address: since for address, since in self._gone.items() if now - since < _MOURNING}

    def take(self, now: float) -> bool:
        """Make entries for some connections that have become busy, drop some that are old. Whether there is more to do
        soon.
        """
        fresh, self._fresh = self._fresh, []
        for item in fresh:
            # Packets that were on their way have told tracking to wait for what it will not see.
            if item in self._flows and not self._reassure(item):
                self._drop([item])  # it ended while its entries were made
        told = list(islice(self._reader.read(), _TURN))
        if told and not self._find_obstacle():
            for key in dict.fromkeys(told):
                self._add(key, now)
        old = [item for item, since in islice(self._flows.items(), _TURN) if now - since > self._longest]
        self._drop(old)
        for item in old:
            self._reassure(item)
        return bool(self._fresh) or len(told) == _TURN or len(old) == _TURN

    def forget(self, addresses: Collection[Address], now: float) -> None:
        """Before tracked connections to these are forgotten."""
        self._gone.update(dict.fromkeys(addresses, now))
        self._drop([item for item in self._flows if item.backend.address in addresses])

    def _add(self, key: bytes, now: float) -> None:
        try:
            found = connections.find(self._tracking, *flow.parse_key(key), self._longest)
            if found is None or found.backend.address in self._gone:
                return
            if not connections.be_liberal(self._tracking, found, self._idle):
                return
            self._flows[found] = now
            self._flows.move_to_end(found)
            self._fresh.append(found)
        except NetlinkError:
            return  # it goes the long way
        try:
            for entry_key, value in found.entries():
                bpf.update(self._maps.flows, entry_key, value)
        except bpf.BpfError:
            self._drop([found])
        if len(self._flows) > MOST_FLOWS:
            self._drop([next(iter(self._flows))])

    def _drop(self, flows: Collection[Flow]) -> None:
        for item in flows:
            for key, _ in item.entries():
                bpf.delete(self._maps.flows, key)
            del self._flows[item]

    def _reassure(self, item: Flow) -> bool:
        """Let tracking keep a connection though it saw no answers to some packets; False when it has ended."""
        with contextlib.suppress(NetlinkError):
            found = connections.find(self._tracking, item.client, item.asked, self._longest)
            return found == item and connections.be_liberal(self._tracking, item, self._idle)
        return False

    def _learn_patience(self) -> None:
        """Connections pass the filter again long before tracking could forget them."""
        self._idle = int((_TRACKING / _IDLE).read_text())
        self._longest = min(LONGEST, *(int((_TRACKING / name).read_text()) / 2 for name in _PATIENCE))

    def _find_obstacle(self) -> str:
        """Users' rules for published ports are to see every packet, marks for the routes are made by the packet filter,
        and nothing must get past IPsec.
        """
        if self._has_rules_of_users():
            return "the chain forward of inet enxame-user has rules"
        if self._routes_by_marks():
            return "a routing rule (ip rule) asks for marks of packets"
        return "IPsec has policies for forwarded packets" if _encrypts_others() else ""

    def _routes_by_marks(self) -> bool:
        rules = self._routes.dump(Request(_GET_ROUTING_RULE, 0, bytes(_RULE_HEADER), "list the routing rules"))
        return any(_RULE_MARK in parse_attributes(body[_RULE_HEADER:]) for body in rules)

    def _has_rules_of_users(self) -> bool:
        return bool(self._tracking.dump(nft_messages.list_rules(nft_messages.INET, "enxame-user", "forward")))

    def _detach(self) -> None:
        for link in list(self._attachments.links):
            self._attachments.detach(link)


def _let_resets_pass() -> None:
    """Tracking does not see how far connections with shortcuts are. It would take the resets that end them for forged,
    and leave them untranslated.
    """
    setting = _TRACKING / "nf_conntrack_tcp_ignore_invalid_rst"
    if setting.read_text().strip() == "0":
        setting.write_text("1")


def _encrypts_others() -> bool:
    """Whether there are IPsec policies for packets that the machine forwards."""
    try:
        kernel = NetlinkSocket(xfrm.NETLINK_XFRM)
    except OSError:
        return False  # the kernel has none
    with contextlib.closing(kernel):
        body = kernel.get(Request(_XFRM_GET_SPDINFO, 0, bytes(4), "count IPsec's policies"))
    counts = parse_attributes(body[4:]).get(_XFRM_SPD_INFO, b"") if body is not None else b""
    return len(counts) >= 12 and struct.unpack_from("=3I", counts)[2] > 0
