"""This manager's certificate, key and roots as files for its etcd member, which reads nothing else.

They lie below the daemon's ``--exec-root``, which is in memory and ends with the machine: the key may be on no disk
while the swarm is locked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from enxame.engine.durable_file import replace_file
from enxame.store.etcd_files import TlsFiles
from enxame.transport.identity import Identity

__all__ = ["MemberFiles"]

_CERTIFICATE: Final = "manager.crt"
_KEY: Final = "manager.key"
_ROOTS: Final = "roots.crt"


class MemberFiles:
    """Files in ``directory``. A member reads certificate and key at every handshake, the roots when it starts."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def paths(self) -> TlsFiles:
        """Where they are, once they were written."""
        return TlsFiles(self._directory / _CERTIFICATE, self._directory / _KEY, self._directory / _ROOTS)

    def write(self, own: Identity) -> None:
        """Write them; all are for the owner alone. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        paths = self.paths
        replace_file(paths.ca, own.believed.encode())
        replace_file(paths.key, own.key.encode())
        replace_file(paths.cert, own.certificate.encode())

    def remove(self) -> None:
        """This node is no manager (any more)."""
        for path in (self.paths.cert, self.paths.key, self.paths.ca):
            path.unlink(missing_ok=True)
