"""Numbers of messages about tracked connections: ``nfnetlink_conntrack.h`` and ``nf_conntrack_common.h`` of Linux."""

from __future__ import annotations

import socket
from typing import Final

NEW: Final = 1 << 8
GET: Final = NEW | 1
DELETE: Final = NEW | 2

ORIGINAL: Final = 1
REPLY: Final = 2
STATUS: Final = 3
PROTOCOL_STATE: Final = 4
TIMEOUT: Final = 7
FILTER: Final = 25
STATUS_MASK: Final = 26

TUPLE_IP: Final = 1
TUPLE_PROTOCOL: Final = 2
#: Source and destination, by version of IP.
ADDRESSES: Final = {4: (1, 2), 6: (3, 4)}
PROTOCOL_NUMBER: Final = 1
SOURCE_PORT: Final = 2
DESTINATION_PORT: Final = 3

SEEN_REPLY: Final = 1 << 1
ASSURED: Final = 1 << 2
SOURCE_TRANSLATED: Final = 1 << 4
DESTINATION_TRANSLATED: Final = 1 << 5
SEQUENCES_MOVED: Final = 1 << 6
HELPED: Final = 1 << 13

_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
#: Versions of IP that connections are of.
VERSIONS: Final = tuple(_FAMILIES)


def header(version: int) -> bytes:
    """What each message begins with."""
    return bytes([_FAMILIES[version], 0, 0, 0])
