"""Rules that lead a container's questions for names to the resolver's sockets, and its answers back. Pure.

Ports are rewritten without tracking connections: port 53 stays free for the container's own programs.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import Final

from enxame.network import nft_messages as nft
from enxame.network.dns_server import ADDRESS, PORT
from enxame.network.nft_messages import IPV4, Message

TABLE: Final = "enxame-resolver"
_CHAIN: Final = "output"
_PRIORITY_RAW: Final = -300
_SOURCE: Final = 12
_DESTINATION: Final = 16
#: Protocol number, and where its header has the checksum.
_PROTOCOLS: Final = ((17, 6), (6, 16))
_DNS: Final = 53


def install(*, again: bool) -> list[Message]:
    """All of it. ``again``: an earlier daemon may have done so."""
    messages = [nft.add_table(IPV4, TABLE), nft.delete_table(IPV4, TABLE)] if again else []
    messages.append(nft.add_table(IPV4, TABLE))
    messages.append(nft.add_base_chain(IPV4, TABLE, _CHAIN, "filter", nft.OUTPUT, _PRIORITY_RAW))
    for address_at, port_at, before, after in ((_DESTINATION, 2, _DNS, PORT), (_SOURCE, 0, PORT, _DNS)):
        for protocol, checksum_at in _PROTOCOLS:
            messages.append(
                nft.add_rule(
                    IPV4,
                    TABLE,
                    _CHAIN,
                    nft.load_payload(nft.NETWORK, address_at, 4),
                    nft.compare(IPv4Address(ADDRESS).packed),
                    nft.load_meta(nft.META_PROTOCOL),
                    nft.compare(bytes((protocol,))),
                    nft.load_payload(nft.TRANSPORT, port_at, 2),
                    nft.compare(struct.pack("!H", before)),
                    nft.immediate(struct.pack("!H", after)),
                    nft.store_payload(nft.TRANSPORT, port_at, 2, checksum=checksum_at),
                )
            )
    return messages
