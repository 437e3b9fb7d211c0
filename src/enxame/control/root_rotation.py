"""When the swarm's new root takes the place of the old one.

A rotation begins with an update of the swarm (``manager/root_settings.py``). While it goes on, nodes trust both roots
and get certificates of the new one. It ends when every node in the list shows such a certificate: also those that are
down, for they would be locked out; removing them lets it end.
"""

from __future__ import annotations

from msgspec.structs import replace

from enxame.model.cluster import Cluster, TLSInfo
from enxame.model.node import Node
from enxame.store.interface import Tx, View

__all__ = ["finish", "has_issuer", "waiting_for"]


def has_issuer(shown: TLSInfo, wanted: TLSInfo) -> bool:
    """Whether a node that shows this has its certificate of the wanted root."""
    return (shown.cert_issuer_subject, shown.cert_issuer_public_key) == (
        wanted.cert_issuer_subject,
        wanted.cert_issuer_public_key,
    )


def waiting_for(view: View) -> list[str]:
    """Ids of the nodes that still need a certificate of the root that the swarm wants."""
    cluster = next(iter(view.all(Cluster)), None)
    if cluster is None:
        return []
    return sorted(node.id for node in view.all(Node) if not has_issuer(node.description.tls_info, cluster.tls_info))


def finish(tx: Tx) -> bool:
    """Let the new root be the root, if a rotation goes on and no node still needs the old one. The old one is trusted
    by nobody from then on, and join tokens name the new one.
    """
    cluster = next(iter(tx.all(Cluster)), None)
    if cluster is None or cluster.internal is None or cluster.internal.rotation is None:
        return False
    if waiting_for(tx):
        return False
    rotation = cluster.internal.rotation
    tx.update(
        replace(
            cluster,
            tls_info=rotation.issuer,
            root_rotation_in_progress=False,
            join_tokens=rotation.join_tokens,
            internal=replace(cluster.internal, ca_cert=rotation.ca_cert, ca_key=rotation.ca_key, rotation=None),
        )
    )
    return True
