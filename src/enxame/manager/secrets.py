"""Use cases around secrets."""

from __future__ import annotations

from collections.abc import Callable

from enxame.errors import Unimplemented
from enxame.manager import lookup, payloads
from enxame.manager.payload_objects import PayloadControl
from enxame.model.secret import Secret, SecretSpec
from enxame.store.store import Store

__all__ = ["SecretControl"]


class SecretControl(PayloadControl[Secret, SecretSpec]):
    """``/secrets``. What is returned holds the data: whoever shows it to a client takes it out."""

    def __init__(self, store: Store, new_id: Callable[[], str]) -> None:
        super().__init__(store, new_id, kind=Secret, noun="secret", find=lookup.secret, limit=payloads.MAX_SECRET_BYTES)

    def _check(self, spec: SecretSpec) -> None:
        if spec.driver is not None:
            raise Unimplemented("secret drivers are not supported by this daemon yet")
        super()._check(spec)
