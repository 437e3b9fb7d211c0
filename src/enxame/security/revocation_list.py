"""The list of certificates that open nothing any more, in the form that other programs read."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["revocation_list"]

#: Nothing in a list depends on when it is made, and none grows old: it is written anew at every change.
_MOMENT: Final = datetime(2020, 1, 1, tzinfo=UTC)
_LIFE: Final = timedelta(days=36500)


def revocation_list(cert: str, key: str, serials: Iterable[int]) -> str:
    """A certificate revocation list (PEM), made by the holder of this certificate and key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    maker = x509.load_pem_x509_certificate(cert.encode())
    signer = serialization.load_pem_private_key(key.encode(), password=None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise TypeError("a node's key is an elliptic curve key")
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(maker.subject)
        .last_update(_MOMENT)
        .next_update(_MOMENT + _LIFE)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_MOMENT).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
