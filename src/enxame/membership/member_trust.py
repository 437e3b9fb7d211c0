"""Keeps an etcd member and the connection to it in step with this manager's certificate and the roots it believes.

A member reads its certificate anew at every handshake, but its roots only when it starts. While the swarm's root is
rotated that does no harm: the new certificates come with an intermediate of the old root. When the old root is not to
be believed any more, members start again, one manager after the other.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from enxame.errors import EnxameError
from enxame.membership.own_identity import OwnIdentity
from enxame.membership.swarm_state import SwarmState
from enxame.model.node import Node
from enxame.store.interface import View

__all__ = ["MemberTrust", "distrusted", "turn"]

log = logging.getLogger(__name__)

#: Between one manager's restart of its member and the next one's: seconds.
SPACING: Final = 3.0
_END: Final = "-----END CERTIFICATE-----"


def distrusted(started_with: str, believed: str) -> bool:
    """Whether a member that was started with some roots believes one that this manager does not (PEM)."""
    return not _roots(started_with) <= _roots(believed)


def turn(view: View, node_id: str, leader: str) -> int:
    """Which manager's turn it is: 0 for the first. All managers come to the same order; who leads is the last, so that
    leadership changes once.
    """
    managers = [node.id for node in view.all(Node) if node.manager_status is not None]
    managers.sort(key=lambda manager: (manager == leader, manager))
    return managers.index(node_id) if node_id in managers else 0


class MemberTrust:
    """``node_id`` is this manager's."""

    def __init__(self, own: OwnIdentity, swarm: SwarmState, node_id: str) -> None:
        self._own = own
        self._swarm = swarm
        self._node_id = node_id

    async def run(self) -> None:
        """Look after the member until cancelled."""
        seen = self._own.identity
        while True:
            if seen == self._own.identity:
                await self._own.next_change()
            seen = self._own.identity
            etcd = self._swarm.etcd
            if etcd is None or seen is None:
                continue
            await etcd.client.renew()
            if distrusted(etcd.server.started_with, seen.believed):
                await asyncio.sleep(SPACING * turn(self._swarm.store.view, self._node_id, self._swarm.leader))
                await self._start_again()

    async def _start_again(self) -> None:
        etcd = self._swarm.etcd
        if etcd is None or not self._swarm.is_open:
            return
        log.info("the etcd member starts again, to believe the swarm's new root alone")
        try:
            if self._swarm.leads:
                await self._swarm.resign()
            await etcd.server.restart()
        except EnxameError as error:
            log.error("the etcd member did not start again: %s", error.message)
        await etcd.client.renew()


def _roots(bundle: str) -> set[str]:
    return {"".join(part.split()) for part in bundle.split(_END) if part.strip()}
