"""Use cases around configs."""

from __future__ import annotations

from collections.abc import Callable

from enxame.manager import lookup, payloads
from enxame.manager.payload_objects import PayloadControl
from enxame.model.secret import Config, ConfigSpec
from enxame.store.store import Store

__all__ = ["ConfigControl"]


class ConfigControl(PayloadControl[Config, ConfigSpec]):
    """``/configs``. Their data is no secret: clients may see it."""

    def __init__(self, store: Store, new_id: Callable[[], str]) -> None:
        super().__init__(store, new_id, kind=Config, noun="config", find=lookup.config, limit=payloads.MAX_CONFIG_BYTES)
