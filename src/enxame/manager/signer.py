"""Who signs the nodes' certificates: the swarm's own CA, or one outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from enxame.errors import Unavailable
from enxame.manager import external_ca
from enxame.model.cluster import Cluster, ClusterSecrets, ExternalCA
from enxame.security import ca
from enxame.security.roots import normalised
from enxame.store.store import Store
from enxame.transport.identity import Identity

__all__ = ["Signer", "external_urls"]

_MICROSECOND: Final = 1000


def external_urls(external_cas: Sequence[ExternalCA], current_root: str, wanted_root: str) -> list[str]:
    """Where signers with the wanted root are. One that names no root is one of the current root."""
    return [
        signer.url
        for signer in external_cas
        if signer.protocol == "cfssl" and normalised(signer.ca_cert or current_root) == normalised(wanted_root)
    ]


class Signer:
    """``own`` is this manager's identity, which external signers ask for."""

    def __init__(self, store: Store, *, wall: Callable[[], datetime], own: Callable[[], Identity | None]) -> None:
        self._store = store
        self._wall = wall
        self._own = own

    async def certify(self, node_id: str, role: str, signing_request: str, addresses: Sequence[str] = ()) -> str:
        """A certificate for the key of a signing request (while the root is rotated: with the intermediate).

        Raises:
            InvalidArgument: the request cannot be read.
            Unavailable: no signer is in reach.
        """
        cluster, secrets = self._cluster()
        rotation = secrets.rotation
        wanted = rotation.ca_cert if rotation is not None else secrets.ca_cert
        key = rotation.ca_key if rotation is not None else secrets.ca_key
        urls = external_urls(cluster.spec.ca_config.external_cas, secrets.ca_cert, wanted)
        if urls:
            certificate = await external_ca.sign(
                urls,
                wanted,
                self._own(),
                signing_request,
                node_id=node_id,
                role=role,
                cluster_id=cluster.id,
                addresses=addresses,
            )
        elif key:
            certificate = await asyncio.to_thread(
                ca.sign_request,
                ca.KeyPair(wanted, key),
                signing_request,
                node_id=node_id,
                role=role,
                cluster_id=cluster.id,
                expiry=timedelta(microseconds=cluster.spec.ca_config.node_cert_expiry // _MICROSECOND),
                now=self._wall(),
                addresses=addresses,
            )
        else:
            raise Unavailable("no valid signer found")
        return normalised(certificate) + (rotation.cross_signed if rotation is not None else "")

    def _cluster(self) -> tuple[Cluster, ClusterSecrets]:
        cluster = next(iter(self._store.view.all(Cluster)), None)
        if cluster is None or cluster.internal is None:
            raise Unavailable("this manager has no swarm")
        return cluster, cluster.internal
