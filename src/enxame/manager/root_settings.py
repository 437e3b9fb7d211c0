"""What a change of the swarm's settings means for its root: nothing, a new signer, a rotation, the end of one.

Rules, order and words of swarmkit's manager/controlapi/ca_rotation.go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec.structs import replace

from enxame.errors import EnxameError, rpc_error
from enxame.manager import external_ca
from enxame.manager.signer import external_urls
from enxame.model.cluster import CAConfig, Cluster, ClusterSecrets, ExternalCA, JoinTokens, RootRotation
from enxame.security import ca, roots
from enxame.security.ca import KeyPair
from enxame.transport.identity import Identity

__all__ = ["RootSettings", "with_trust"]

log = logging.getLogger(__name__)


def with_trust(cluster: Cluster, secrets: ClusterSecrets) -> Cluster:
    """The cluster with what it shows of these secrets."""
    root = ca.tls_info(secrets.ca_cert)
    shown = root if secrets.rotation is None else replace(secrets.rotation.issuer, trust_root=secrets.ca_cert)
    return replace(cluster, tls_info=shown, root_rotation_in_progress=secrets.rotation is not None)


class RootSettings:
    """``own`` is this manager's identity; ``new_token`` makes a join token for a root."""

    def __init__(
        self,
        *,
        wall: Callable[[], datetime],
        own: Callable[[], Identity | None],
        new_token: Callable[[str], str],
    ) -> None:
        self._wall = wall
        self._own = own
        self._new_token = new_token

    async def secrets(self, current: ClusterSecrets, config: CAConfig) -> ClusterSecrets:
        """The secrets that go with new settings.

        Raises:
            InvalidArgument: settings that do not fit, or an external CA that is needed and not in reach.
        """
        desired, key = roots.normalised(config.signing_ca_cert), config.signing_ca_key
        if key and not desired:
            raise _invalid("if a signing CA key is provided, the signing CA cert must also be provided")
        root = roots.normalised(current.ca_cert)
        old_urls: list[str] = []
        if not current.ca_key:
            if desired == root and key:
                # The external CA's key is given: from now on the swarm signs by itself.
                await asyncio.to_thread(roots.check_root, desired, key, self._wall())
                return self._without_rotation(current, config, key)
            old_urls = await self._reachable(config.external_cas, root, root, "current")
        if not desired:
            return await self._without_desired(current, config, root, old_urls)
        await asyncio.to_thread(roots.check_root, desired, key, self._wall())
        if not key:
            await self._reachable(config.external_cas, root, desired, "desired")
        if desired == root:
            return self._without_rotation(current, config, key)
        if key and current.ca_key and _same_key(key, current.ca_key):
            raise _invalid("Cannot update to a cert with an identical key")
        rotation = current.rotation
        if rotation is not None and roots.normalised(rotation.ca_cert) == desired:
            return replace(current, rotation=replace(rotation, ca_key=key), forced_rotations=config.force_rotate)
        return await self._begin(current, config, KeyPair(desired, key), old_urls)

    async def _without_desired(
        self, current: ClusterSecrets, config: CAConfig, root: str, old_urls: Sequence[str]
    ) -> ClusterSecrets:
        if config.force_rotate != current.forced_rotations:
            new = await asyncio.to_thread(ca.create_root, self._wall())
            return await self._begin(current, config, new, old_urls)
        rotation = current.rotation
        if rotation is not None and not rotation.ca_key:
            await self._reachable(config.external_cas, root, rotation.ca_cert, "next")
        return current

    async def _begin(
        self, current: ClusterSecrets, config: CAConfig, new: KeyPair, old_urls: Sequence[str]
    ) -> ClusterSecrets:
        if current.ca_key:
            old = KeyPair(current.ca_cert, current.ca_key)
            crossed = await asyncio.to_thread(roots.cross_sign, old, new.cert)
        elif not new.key:
            raise _invalid("rotating from one external CA to a different external CA is not supported")
        else:
            try:
                crossed = await external_ca.cross_sign(old_urls, current.ca_cert, self._own(), new)
            except EnxameError as error:
                log.error("the external CA did not certify the new root: %s", error.message)
                raise EnxameError(
                    "rpc error: code = Internal desc = unable to generate a cross-signed certificate for root rotation"
                ) from error
        log.info("the swarm's root certificate is rotated")
        rotation = RootRotation(
            ca_cert=new.cert,
            ca_key=new.key,
            cross_signed=roots.normalised(crossed),
            issuer=await asyncio.to_thread(ca.tls_info, new.cert),
            join_tokens=JoinTokens(worker=self._new_token(new.cert), manager=self._new_token(new.cert)),
        )
        return replace(current, rotation=rotation, forced_rotations=config.force_rotate)

    def _without_rotation(self, current: ClusterSecrets, config: CAConfig, key: str) -> ClusterSecrets:
        return replace(current, ca_key=key, rotation=None, forced_rotations=config.force_rotate)

    async def _reachable(
        self, external_cas: Sequence[ExternalCA], current_root: str, wanted_root: str, which: str
    ) -> list[str]:
        """The signers with this root; one of them at least must answer."""
        urls = external_urls(external_cas, current_root, wanted_root)
        for number, url in enumerate(urls, 1):
            try:
                await external_ca.check_reachable(url, wanted_root, self._own())
            except EnxameError as error:
                log.warning("external CA # %d is unreachable or invalid: %s", number, error.message)
            else:
                return urls
        raise _invalid(
            f"there must be at least one valid, reachable external CA corresponding to the {which} CA certificate"
        )


def _same_key(one: str, other: str) -> bool:
    return roots.load_key(one).public_key() == roots.load_key(other).public_key()


def _invalid(text: str) -> EnxameError:
    return rpc_error("InvalidArgument", text)
