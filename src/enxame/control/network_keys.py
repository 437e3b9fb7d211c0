"""Keys of encrypted networks: a new one every twelve hours, known to all nodes long before it encrypts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from msgspec.structs import replace

from enxame.control.board import Board
from enxame.model.cluster import ClusterSecrets, NetworkKey
from enxame.model.network import Network

__all__ = ["ENCRYPTED", "ROTATE_EVERY", "is_encrypted", "review"]

ENCRYPTED: Final = "encrypted"
ROTATE_EVERY: Final = timedelta(hours=12)
#: The one before, for packets under way; the one that encrypts; the next.
_RING: Final = 3
_BYTES: Final = 32


def is_encrypted(network: Network) -> bool:
    """Whether its packets between machines are."""
    driver = network.driver_state or network.spec.driver_configuration
    options = driver.options if driver is not None else {}
    return options.get(ENCRYPTED, "false").lower() not in ("false", "0")


def review(board: Board, rng: Callable[[], float]) -> None:
    """Make the first two keys with the first encrypted network, and another when it is time."""
    cluster = board.cluster()
    if cluster is None or not any(is_encrypted(network) for network in board.tx.all(Network)):
        return
    secrets = cluster.internal or ClusterSecrets()
    keys, now = secrets.network_keys, board.now
    since = secrets.network_keys_since or now.wall
    if keys and now.wall - since < ROTATE_EVERY:
        remaining = since + ROTATE_EVERY - now.wall
        board.wake_at(now.mono + remaining.total_seconds(), _TIMER)
        return
    if not keys:
        keys = [_key(1, rng)]
    keys = [*keys, _key(keys[-1].number + 1, rng)][-_RING:]
    board.tx.update(replace(cluster, internal=replace(secrets, network_keys=keys, network_keys_since=now.wall)))
    board.wake_at(now.mono + ROTATE_EVERY.total_seconds(), _TIMER)


_TIMER: Final = ("keys", "", "")


def _key(number: int, rng: Callable[[], float]) -> NetworkKey:
    return NetworkKey(number=number, secret=bytes(int(rng() * 256) for _ in range(_BYTES)))
