"""A node's certificate, key and root on disk: ``swarm/certificates/``.

Certificate and key belong together: both are written beside the old ones first, so that a crash leaves one pair or
the other, never half of each.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from enxame.engine.durable_file import replace_file
from enxame.errors import EnxameError
from enxame.security import ca
from enxame.security.renewal import renewal_moment
from enxame.transport.identity import Identity

DIRECTORY: Final = "certificates"
CERTIFICATE: Final = "swarm-node.crt"
KEY: Final = "swarm-node.key"
ROOT: Final = "swarm-root-ca.crt"
_NEW: Final = ".new"
_END: Final = "-----END CERTIFICATE-----"


def read(directory: Path) -> Identity | None:
    """The node's identity below its swarm ``directory``, None when it has none. Raises EnxameError."""
    place = directory / DIRECTORY
    try:
        _finish(place)
        root, next_root = _split((place / ROOT).read_text())
        return Identity((place / CERTIFICATE).read_text(), (place / KEY).read_text(), root, next_root)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise EnxameError(f"cannot read this node's certificate in {place}: {error}") from error


def write(directory: Path, identity: Identity) -> None:
    """Write durably; the key is for the owner alone. Raises OSError."""
    place = directory / DIRECTORY
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_file(place / ROOT, identity.believed.encode(), mode=0o644)
    replace_file(place / (KEY + _NEW), identity.key.encode())
    # From here on the new pair counts, also after a crash.
    replace_file(place / (CERTIFICATE + _NEW), identity.certificate.encode(), mode=0o644)
    _finish(place)


def seconds_to_renewal(identity: Identity, now: datetime, random: float) -> float:
    """How long the certificate still does, given a number from 0 to 1 that spreads renewals; negative when overdue."""
    known = ca.node_identity(identity.certificate)
    return (renewal_moment(known.not_before, known.not_after, random) - now).total_seconds()


def has_expired(identity: Identity, now: datetime) -> bool:
    """Whether nobody believes the certificate any more."""
    return ca.node_identity(identity.certificate).not_after <= now


def _split(roots: str) -> tuple[str, str]:
    """The root and, while it is rotated, the next one."""
    first, separator, rest = roots.partition(_END)
    return first + separator + ("\n" if separator else ""), rest.lstrip("\n")


def _finish(place: Path) -> None:
    certificate, key = place / (CERTIFICATE + _NEW), place / (KEY + _NEW)
    if certificate.exists():
        if key.exists():
            key.replace(place / KEY)
        certificate.replace(place / CERTIFICATE)
