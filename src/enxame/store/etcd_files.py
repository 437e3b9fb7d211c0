"""The certificate files that an etcd member and its client use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["TlsFiles"]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files: this manager's certificate (valid for its peer address and the name ``swarm-manager``) and
    key, and the root that the other side must show a certificate of; ``revoked``: a list of those that are not taken.
    """

    cert: Path
    key: Path
    ca: Path
    revoked: Path | None = None
