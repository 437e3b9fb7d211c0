"""The swarm as a whole: its one cluster object, its settings and join tokens."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from enxame.errors import InvalidArgument, NotFound
from enxame.manager import swarm_spec
from enxame.manager.root_settings import RootSettings, with_trust
from enxame.model.base import ObjectVersion
from enxame.model.cluster import (
    DEFAULT_DATA_PATH_PORT,
    Cluster,
    ClusterSecrets,
    EncryptionConfig,
    InitRequest,
    JoinTokens,
    SwarmSpec,
)
from enxame.security.ca import KeyPair, tls_info
from enxame.security.tokens import new_join_token, new_unlock_key
from enxame.store.interface import Tx, View
from enxame.store.store import Store
from enxame.transport.identity import Identity

__all__ = ["SwarmControl", "new_cluster"]

DEFAULT_POOL: Final = "10.0.0.0/8"
DEFAULT_SUBNET_SIZE: Final = 24
_DATA_PATH_PORTS: Final = range(1024, 49152)
_LONGEST_SUBNET: Final = 29


def new_cluster(
    cluster_id: str,
    request: InitRequest,
    root: KeyPair,
    *,
    new_token: Callable[[str], str] = new_join_token,
    new_key: Callable[[], str] = new_unlock_key,
) -> Cluster:
    """The cluster object of a new swarm.

    Raises:
        InvalidArgument: a setting that does not do, in Swarm's words.
    """
    spec = request.spec
    if request.auto_lock_managers:
        spec = replace(spec, encryption_config=EncryptionConfig(auto_lock_managers=True))
    spec = swarm_spec.with_defaults(spec)
    swarm_spec.validate(spec)
    spec = replace(spec, ca_config=replace(spec.ca_config, signing_ca_cert="", signing_ca_key=""))
    pools, size = _address_pools(request.default_addr_pool, request.subnet_size)
    return Cluster(
        id=cluster_id,
        spec=spec,
        tls_info=tls_info(root.cert),
        default_addr_pool=pools,
        subnet_size=size,
        data_path_port=_data_path_port(request.data_path_port),
        join_tokens=JoinTokens(worker=new_token(root.cert), manager=new_token(root.cert)),
        internal=ClusterSecrets(
            ca_cert=root.cert,
            ca_key=root.key,
            unlock_key=new_key() if spec.encryption_config.auto_lock_managers else "",
            forced_rotations=spec.ca_config.force_rotate,
        ),
    )


def _address_pools(pools: list[str], size: int) -> tuple[list[str], int]:
    networks: list[ipaddress.IPv4Network] = []
    for pool in pools:
        try:
            network = ipaddress.IPv4Network(pool, strict=False)
        except ValueError:
            raise InvalidArgument(f"invalid CIDR address: {pool}") from None
        if any(network.overlaps(other) for other in networks):
            raise InvalidArgument(f"default address pool {pool} overlaps with another one")
        networks.append(network)
    size = size or DEFAULT_SUBNET_SIZE
    if size > _LONGEST_SUBNET or size < 1:
        raise InvalidArgument(f"subnet size is out of range: {size}")
    if any(network.prefixlen > size for network in networks):
        raise InvalidArgument(f"invalid CIDR: subnet size {size} is larger than the default address pool")
    return [str(network) for network in networks] or [DEFAULT_POOL], size


def _data_path_port(port: int) -> int:
    if port == 0:
        return DEFAULT_DATA_PATH_PORT
    if port not in _DATA_PATH_PORTS:
        raise InvalidArgument(f"Datapath port number is not in valid range (1024-49151) : {port}")
    return port


class SwarmControl:
    """``GET /swarm`` and ``POST /swarm/update``. ``settled`` waits until this manager is locked as the swarm wants."""

    def __init__(
        self,
        store: Store,
        *,
        new_token: Callable[[str], str] = new_join_token,
        new_key: Callable[[], str] = new_unlock_key,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        own: Callable[[], Identity | None] = lambda: None,
        settled: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._settled = settled
        self._new_token = new_token
        self._new_key = new_key
        self._roots = RootSettings(wall=wall, own=own, new_token=new_token)

    def inspect(self) -> Cluster:
        """The cluster object with its join tokens (and secrets, in ``internal``)."""
        return _cluster(self._store.view)

    def unlock_key(self) -> str:
        """What locked managers need after a restart; empty when autolock is off."""
        cluster = _cluster(self._store.view)
        if not cluster.spec.encryption_config.auto_lock_managers or cluster.internal is None:
            return ""
        return cluster.internal.unlock_key

    async def update(
        self,
        version: int,
        spec: SwarmSpec,
        *,
        rotate_worker_token: bool = False,
        rotate_manager_token: bool = False,
        rotate_unlock_key: bool = False,
    ) -> None:
        """Replace the settings (what is unset gets its default) and rotate what is asked for.

        Raises:
            InvalidArgument: a setting that does not do; an external CA that is needed and does not answer.
            EnxameError: ``update out of sequence``: the version is not the current one.
        """
        wanted = swarm_spec.with_defaults(spec)
        swarm_spec.validate(wanted)
        known = _cluster(self._store.view)
        # Signers are asked before the commit, about the cluster of the version that the client knows.
        trust = None
        if known.version.index == version:
            trust = await self._roots.secrets(known.internal or ClusterSecrets(), wanted.ca_config)
        # The key is a secret, and the certificate without it would ask for something else the next time.
        wanted = replace(wanted, ca_config=replace(wanted.ca_config, signing_ca_cert="", signing_ca_key=""))

        def change(tx: Tx) -> None:
            cluster = _cluster(tx)
            secrets = trust or cluster.internal or ClusterSecrets()
            tokens = cluster.join_tokens or JoinTokens()
            if rotate_worker_token:
                tokens = replace(tokens, worker=self._new_token(secrets.ca_cert))
            if rotate_manager_token:
                tokens = replace(tokens, manager=self._new_token(secrets.ca_cert))
            if not wanted.encryption_config.auto_lock_managers:
                secrets = replace(secrets, unlock_key="")
            elif rotate_unlock_key or not secrets.unlock_key:
                secrets = replace(secrets, unlock_key=self._new_key())
            changed = replace(
                cluster, version=ObjectVersion(index=version), spec=wanted, join_tokens=tokens, internal=secrets
            )
            tx.update(with_trust(changed, secrets) if trust is not None else changed)

        await self._store.update(change)
        if self._settled is not None:
            await self._settled()


def _cluster(view: View) -> Cluster:
    cluster = next(iter(view.all(Cluster)), None)
    if cluster is None:
        raise NotFound("This node is not part of a swarm")
    return cluster
