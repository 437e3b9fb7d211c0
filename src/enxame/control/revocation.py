"""Which certificates of managers open nothing any more.

The manager's port asks the list of nodes at every link; etcd, where managers agree among each other, only looks at the
certificate and at a list of revoked ones. On that list comes the certificate of a manager that is none any more, and
the one before of a manager that has a new one.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from enxame.control.board import Board
from enxame.model.cluster import Cluster
from enxame.model.node import Node

__all__ = ["KEPT", "review"]

#: At least for so long a revoked certificate is kept in mind, and for as long as certificates live: seconds.
KEPT: Final = 400 * 24 * 3600
_SECOND: Final = 1_000_000_000


def review(board: Board) -> None:
    """Look at the pass's dirty nodes."""
    if not board.dirty_nodes:
        return
    cluster = next(iter(board.tx.all(Cluster)), None)
    if cluster is None or cluster.internal is None:
        return
    secrets = cluster.internal
    current, revoked = dict(secrets.manager_certificates), dict(secrets.revoked_certificates)
    now = int(board.now.wall.timestamp())
    for node_id in dict.fromkeys([*board.dirty_nodes, *current]):
        known, serial = current.get(node_id, ""), _serial(board.node(node_id))
        if known == serial:
            continue
        if known:
            revoked[known] = now
        if serial:
            current[node_id] = serial
        else:
            current.pop(node_id, None)
    if (current, revoked) == (secrets.manager_certificates, secrets.revoked_certificates):
        return
    life = max(KEPT, cluster.spec.ca_config.node_cert_expiry // _SECOND)
    revoked = {serial: when for serial, when in revoked.items() if now - when < life}
    changed = replace(secrets, manager_certificates=current, revoked_certificates=revoked)
    board.tx.update(replace(cluster, internal=changed))


def _serial(node: Node | None) -> str:
    """Of a manager's certificate. One that is on its way out is a manager until its part was taken from it."""
    if node is None or (node.spec.role != "manager" and node.manager_status is None):
        return ""
    return node.description.certificate_serial
