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
_ENCRYPTED: Final = "BEGIN ENCRYPTED PRIVATE KEY"
_END: Final = "-----END CERTIFICATE-----"


def read(directory: Path, passphrase: str = "") -> Identity | None:
    """The node's identity below its swarm ``directory``, None when it has none. A locked manager's key is encrypted
    with the ``passphrase``. Raises EnxameError.
    """
    place = directory / DIRECTORY
    try:
        _finish(place)
        root, next_root = _split((place / ROOT).read_text())
        key = _decrypted((place / KEY).read_text(), passphrase)
        return Identity((place / CERTIFICATE).read_text(), key, root, next_root)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise EnxameError(f"cannot read this node's certificate in {place}: {error}") from error


def write(directory: Path, identity: Identity, passphrase: str = "") -> None:
    """Write durably; the key is for the owner alone, and encrypted when there is a ``passphrase``. Raises OSError."""
    place = directory / DIRECTORY
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_file(place / ROOT, identity.believed.encode(), mode=0o644)
    replace_file(place / (KEY + _NEW), _encrypted(identity.key, passphrase).encode())
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


def is_encrypted(directory: Path) -> bool:
    """Whether the node's key lies encrypted on the disk. Raises OSError."""
    return _ENCRYPTED in (directory / DIRECTORY / KEY).read_text()


def _encrypted(key: str, passphrase: str) -> str:
    if not passphrase:
        return key
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_private_key(key.encode(), password=None)
    form = serialization.BestAvailableEncryption(passphrase.encode())
    return loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, form).decode()


def _decrypted(key: str, passphrase: str) -> str:
    if _ENCRYPTED not in key:
        return key
    from cryptography.hazmat.primitives import serialization

    if not passphrase:
        raise ValueError("the key is encrypted")
    loaded = serialization.load_pem_private_key(key.encode(), password=passphrase.encode())
    plain = serialization.NoEncryption()
    return loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


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
