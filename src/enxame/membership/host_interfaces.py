"""The addresses of this machine, for choosing which to advertise."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from enxame.engine.children import PIPE, child
from enxame.errors import EnxameError
from enxame.membership.addresses import Interface

_DEADLINE: Final = 5.0

#: Bridges and cables of containers: ours, and those of other engines on the host. Never a machine's own address.
_NOT_THE_MACHINES: Final = ("enx-", "enxame", "veth", "docker", "br-", "cni", "podman", "virbr")


async def read() -> list[Interface]:
    """Interfaces that are up, without the loopback and without containers' bridges.

    Raises:
        EnxameError: iproute2 is missing or failed.
    """
    try:
        async with (
            asyncio.timeout(_DEADLINE),
            child("ip", "-json", "address", "show", "up", stdout=PIPE, stderr=PIPE) as process,
        ):
            output, complaint = await process.communicate()
    except TimeoutError:
        raise EnxameError("cannot list this machine's addresses: `ip` does not answer") from None
    except FileNotFoundError:
        raise EnxameError(
            "cannot list this machine's addresses: the `ip` command (package iproute2) is missing"
        ) from None
    if process.returncode != 0:
        raise EnxameError(f"cannot list this machine's addresses: {complaint.decode(errors='replace').strip()}")
    interfaces = []
    for link in json.loads(output):
        name = link.get("ifname", "")
        if "LOOPBACK" in link.get("flags", ()) or name.startswith(_NOT_THE_MACHINES):
            continue
        addresses = tuple(info["local"] for info in link.get("addr_info", ()) if "local" in info)
        interfaces.append(Interface(name, addresses))
    return interfaces
