"""What happens to the swarm's objects, on a manager's event stream."""

from __future__ import annotations

import logging
from typing import NoReturn

from enxame.engine.events import EventBus
from enxame.manager.events import event_messages
from enxame.store.store import Store
from enxame.store.watch import WatchLagged

__all__ = ["publish"]

log = logging.getLogger(__name__)


async def publish(store: Store, bus: EventBus) -> NoReturn:
    """Tell of every change until cancelled."""
    while True:
        try:
            async with store.watch() as watch:
                while True:
                    for event in await watch.next():
                        for message in event_messages(event):
                            bus.publish(message.type, message.action, message.id, message.attributes, scope="swarm")
        except WatchLagged:
            log.warning("events of the swarm were produced faster than they could be told; some are left out")
