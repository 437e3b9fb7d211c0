"""This manager's certificate, key and roots as files for its etcd member, which reads nothing else.

They lie below the daemon's ``--exec-root``, which is in memory and ends with the machine: the key may be on no disk
while the swarm is locked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from enxame.engine.durable_file import replace_file
from enxame.security.revocation_list import revocation_list
from enxame.store.etcd_files import TlsFiles
from enxame.transport.identity import Identity

__all__ = ["MemberFiles"]

_CERTIFICATE: Final = "manager.crt"
_KEY: Final = "manager.key"
_ROOTS: Final = "roots.crt"
_REVOKED: Final = "revoked.crl"


class MemberFiles:
    """Files in ``directory``. A member reads certificate and key at every handshake, the roots when it starts."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def paths(self) -> TlsFiles:
        """Where they are, once they were written."""
        return TlsFiles(
            self._directory / _CERTIFICATE,
            self._directory / _KEY,
            self._directory / _ROOTS,
            self._directory / _REVOKED,
        )

    def write(self, own: Identity) -> None:
        """Write them; all are for the owner alone. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        paths = self.paths
        replace_file(paths.ca, own.believed.encode())
        replace_file(paths.key, own.key.encode())
        replace_file(paths.cert, own.certificate.encode())
        if not (self._directory / _REVOKED).exists():
            self.revoke(own, ())

    def revoke(self, own: Identity, serials: Sequence[int]) -> None:
        """Write which certificates open nothing any more; it is looked at in every handshake. Raises OSError."""
        content = revocation_list(own.certificate, own.key, serials)
        replace_file(self._directory / _REVOKED, content.encode())

    def remove(self) -> None:
        """This node is no manager (any more)."""
        for name in (_CERTIFICATE, _KEY, _ROOTS, _REVOKED):
            (self._directory / name).unlink(missing_ok=True)
