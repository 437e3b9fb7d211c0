"""This node's certificate and the roots it believes: on disk, and in the TLS contexts that are made of them."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, replace
from pathlib import Path

from enxame.errors import Unavailable
from enxame.membership import certificate_files
from enxame.model.cluster import TLSInfo
from enxame.security import roots
from enxame.transport import identity
from enxame.transport.identity import Identity, ServerIdentity

__all__ = ["OwnIdentity"]


@dataclass(frozen=True, slots=True)
class _Derived:
    """What is made of an identity. ``due``: the certificate is not one of the root that certificates are to be of."""

    identity: Identity
    client: ssl.SSLContext
    tls_info: TLSInfo
    due: bool


class OwnIdentity:
    """``directory`` is the swarm's; :meth:`load` first. Not for use by several tasks at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._now: _Derived | None = None
        self._server: ServerIdentity | None = None

    async def load(self) -> Identity | None:
        """Read it. None: this node has no certificate. Raises EnxameError when it cannot be read."""
        found = await asyncio.to_thread(certificate_files.read, self._directory)
        self._now = await asyncio.to_thread(_derive, found) if found is not None else None
        return found

    @property
    def identity(self) -> Identity | None:
        """The certificate with its key."""
        return self._now.identity if self._now is not None else None

    @property
    def client_context(self) -> ssl.SSLContext:
        """For links to managers. Raises Unavailable when there is no certificate."""
        return self._known.client

    @property
    def tls_info(self) -> TLSInfo:
        """What the node shows of it."""
        return self._now.tls_info if self._now is not None else TLSInfo()

    @property
    def is_due(self) -> bool:
        """Whether the certificate must be renewed because the swarm's root is (to be) another one."""
        return self._known.due

    async def server_context(self) -> ssl.SSLContext:
        """For a manager's port; shows and believes what is newest at each handshake."""
        if self._server is None:
            self._server = await asyncio.to_thread(ServerIdentity, self._known.identity)
        return self._server.context

    async def replace(self, renewed: Identity) -> None:
        """Take another certificate or other roots: on disk first, then for links that begin from now on."""
        await asyncio.to_thread(certificate_files.write, self._directory, renewed)
        self._now = await asyncio.to_thread(_derive, renewed)
        if self._server is not None:
            await asyncio.to_thread(self._server.replace, renewed)

    async def trust(self, root: str, next_root: str) -> bool:
        """Believe these roots and no others; False when it was so already."""
        own = self._known.identity
        if (own.root, own.next_root) == (root, next_root):
            return False
        await self.replace(replace(own, root=root, next_root=next_root))
        return True

    @property
    def _known(self) -> _Derived:
        if self._now is None:
            raise Unavailable("this node has no certificate")
        return self._now


def _derive(own: Identity) -> _Derived:
    return _Derived(
        own,
        identity.client_context(own),
        roots.shown_tls_info(own.certificate, own.root, own.next_root),
        not roots.is_issued_by(own.certificate, own.next_root or own.root),
    )
