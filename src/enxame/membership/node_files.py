"""What a backup keeps of the manager that made it: who it is, beside the swarm's state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from enxame.backup.form import FILE, Damaged, Item
from enxame.membership.state_file import NodeState
from enxame.transport.identity import Identity

__all__ = ["collect", "identity_of", "state_of"]

_STATE: Final = "node.json"
_CERTIFICATE: Final = "certificate.pem"
_KEY: Final = "key.pem"
_ROOT: Final = "root.pem"


def collect(state: NodeState, own: Identity | None) -> list[Item]:
    """The node's part of a backup: ``own`` is its certificate."""
    found = {_STATE: msgspec.json.encode(state)}
    if own is not None:
        found |= {_CERTIFICATE: own.certificate.encode(), _KEY: own.key.encode(), _ROOT: own.root.encode()}
    return [Item(FILE, name, 0, data) for name, data in found.items()]


def state_of(items: Iterable[Item]) -> NodeState:
    """What the node knew of itself. Raises Damaged."""
    data = _files(items).get(_STATE, b"")
    try:
        return msgspec.json.decode(data, type=NodeState)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Damaged(f"the backup does not tell which node made it: {error}") from error


def identity_of(items: Iterable[Item]) -> Identity | None:
    """The node's certificate, if it had one."""
    found = _files(items)
    if _CERTIFICATE not in found or _KEY not in found or _ROOT not in found:
        return None
    return Identity(found[_CERTIFICATE].decode(), found[_KEY].decode(), found[_ROOT].decode())


def _files(items: Iterable[Item]) -> dict[str, bytes]:
    return {item.id: item.data for item in items if item.kind == FILE}
