"""This node's certificate and the roots it believes: on disk, and in the TLS contexts that are made of them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from enxame.errors import Unavailable
from enxame.membership import certificate_files
from enxame.membership.member_files import MemberFiles
from enxame.membership.self_description import Shown
from enxame.membership.state_keys import StateKeys
from enxame.security import ca, roots
from enxame.security.tokens import JoinToken, root_digest
from enxame.transport import identity
from enxame.transport.identity import Identity, ServerIdentity

__all__ = ["OwnIdentity"]


@dataclass(frozen=True, slots=True)
class _Derived:
    """What is made of an identity. ``due``: the certificate is not one of the root that certificates are to be of."""

    identity: Identity
    client: ssl.SSLContext
    shown: Shown
    due: bool


class OwnIdentity:
    """``directory`` is the swarm's; :meth:`load` first. ``keys`` are a manager's: while the swarm is locked, its own
    key is encrypted. ``member_files`` are kept in step for its etcd member.
    """

    def __init__(self, directory: Path, keys: StateKeys | None = None, member_files: MemberFiles | None = None) -> None:
        self._directory = directory
        self._keys = keys
        self._member_files = member_files
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._now: _Derived | None = None
        self._server: ServerIdentity | None = None

    async def load(self) -> Identity | None:
        """Read it. None: this node has no certificate. Raises EnxameError when it cannot be read."""
        passphrase = self._keys.any_passphrase if self._keys is not None else ""
        found = await asyncio.to_thread(certificate_files.read, self._directory, passphrase)
        if found is not None:
            await self._take(found)
        return found

    @property
    def identity(self) -> Identity | None:
        """The certificate with its key."""
        return self._now.identity if self._now is not None else None

    def is_of(self, token: JoinToken) -> bool:
        """Whether a join token is of this node's swarm."""
        own = self.identity
        return own is not None and root_digest(own.root) == token.digest

    @property
    def client_context(self) -> ssl.SSLContext:
        """For links to managers. Raises Unavailable when there is no certificate."""
        return self._known.client

    @property
    def shown(self) -> Shown:
        """What the node tells others of it."""
        return self._now.shown if self._now is not None else Shown()

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
        async with self._writing:
            await self._write(renewed)
            await self._take(renewed)

    async def certified(self, certificate: str, key: str, root: str, next_root: str) -> None:
        """Take another certificate. The roots count only where none are known yet: others may have come meanwhile."""
        async with self._writing:
            known = self.identity
            if known is not None:
                root, next_root = known.root, known.next_root
            renewed = Identity(certificate, key, root, next_root)
            await self._write(renewed)
            await self._take(renewed)

    async def revoke(self, serials: Iterable[int]) -> None:
        """Let this manager's etcd member let nobody in with these certificates, from now on."""
        own = self.identity
        if self._member_files is not None and own is not None:
            await asyncio.to_thread(self._member_files.revoke, own, tuple(serials))

    async def next_change(self) -> None:
        """Wait until there is another certificate, or other roots."""
        await self._changed.wait()

    async def protect(self) -> None:
        """Encrypt the key on the disk, or decrypt it, as the swarm is locked or not. Raises OSError."""
        async with self._writing:
            own = self.identity
            if own is None or self._keys is None:
                return
            encrypted = await asyncio.to_thread(certificate_files.is_encrypted, self._directory)
            if encrypted != bool(self._keys.passphrase):
                await self._write(own)

    async def _take(self, own: Identity) -> None:
        self._now = await asyncio.to_thread(_derive, own)
        if self._server is not None:
            await asyncio.to_thread(self._server.replace, own)
        if self._member_files is not None:
            await asyncio.to_thread(self._member_files.write, own)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _write(self, own: Identity) -> None:
        passphrase = self._keys.passphrase if self._keys is not None else ""
        await asyncio.to_thread(certificate_files.write, self._directory, own, passphrase)

    async def trust(self, root: str, next_root: str) -> bool:
        """Believe these roots and no others; False when it was so already."""
        async with self._writing:
            own = self._known.identity
            if (own.root, own.next_root) == (root, next_root):
                return False
            changed = replace(own, root=root, next_root=next_root)
            await self._write(changed)
            await self._take(changed)
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
        Shown(roots.shown_tls_info(own.certificate, own.root, own.next_root), f"{ca.serial_number(own.certificate):x}"),
        not roots.is_issued_by(own.certificate, own.next_root or own.root),
    )
