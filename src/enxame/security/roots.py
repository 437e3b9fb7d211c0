"""Roots that others made, and what binds one root to the next."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from enxame.errors import EnxameError, rpc_error
from enxame.model.cluster import TLSInfo
from enxame.security.ca import KeyPair, authority_key_identifier

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

__all__ = ["check_root", "cross_sign", "is_issued_by", "load_key", "normalised", "shown_tls_info"]

#: A root that ends sooner is not taken (swarmkit's minRootExpiration).
SHORTEST_LIFE: Final = timedelta(days=365)
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"


def normalised(pem: str) -> str:
    """The text without space around its lines, so that equal certificates compare equal."""
    lines = [line.strip() for line in pem.strip().splitlines()]
    return "\n".join(line for line in lines if line) + "\n" if pem.strip() else ""


def check_root(cert: str, key: str, now: datetime) -> None:
    """Whether a given certificate (and key, if any) can be the swarm's root.

    Raises:
        InvalidArgument: it cannot, in swarmkit's words.
    """
    from cryptography.exceptions import InvalidSignature

    parsed = _load_all(cert)
    if not parsed:
        raise _invalid("no valid root CA certificates found")
    if len(parsed) > 1:
        raise _invalid("the desired CA certificate cannot contain multiple certificates")
    root = parsed[0]
    if not _may_sign_certificates(root):
        raise _invalid("certificate not a CA")
    try:
        root.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        raise _invalid("error while validating Root CA Certificate: the certificate is not signed by itself") from None
    if root.not_valid_before_utc > now:
        raise _invalid("not yet valid")
    if root.not_valid_after_utc < now + SHORTEST_LIFE:
        raise _invalid("CA certificate expires too soon")
    if key and load_key(key).public_key() != root.public_key():
        raise _invalid("certificate key mismatch")


def load_key(key: str) -> EllipticCurvePrivateKey | RSAPrivateKey:
    """A root's private key (PEM, not encrypted). Raises InvalidArgument."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    try:
        loaded = serialization.load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _invalid(f"malformed private key: {error}") from None
    if isinstance(loaded, rsa.RSAPrivateKey) and loaded.key_size < 2048:
        raise _invalid("unsupported RSA key size")
    if not isinstance(loaded, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise _invalid("unknown or unsupported certificate public key algorithm")
    return loaded


def cross_sign(old: KeyPair, new_cert: str) -> str:
    """The new root as an intermediate of the old one: who only knows the old one believes its certificates, too."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    issuer, new = _load(old.cert), _load(new_cert)
    builder = (
        x509.CertificateBuilder()
        .subject_name(new.subject)
        .issuer_name(issuer.subject)
        .public_key(new.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(new.not_valid_before_utc)
        .not_valid_after(new.not_valid_after_utc)
    )
    for extension in new.extensions:
        if extension.oid != x509.AuthorityKeyIdentifier.oid:
            builder = builder.add_extension(extension.value, extension.critical)
    builder = builder.add_extension(authority_key_identifier(issuer), critical=False)
    signed = builder.sign(load_key(old.key), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def is_issued_by(cert: str, root: str) -> bool:
    """Whether a certificate (the first of a chain) is signed by the key of this root."""
    from cryptography.exceptions import InvalidSignature

    try:
        _load(cert).verify_directly_issued_by(_load(root))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def shown_tls_info(cert: str, root: str, next_root: str = "") -> TLSInfo:
    """What a node with this certificate, which trusts these roots, shows: who issued the certificate."""
    from cryptography.hazmat.primitives import serialization

    issuer = next_root if next_root and is_issued_by(cert, next_root) else root
    parsed = _load(issuer)
    public_key = parsed.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return TLSInfo(
        trust_root=root,
        cert_issuer_subject=base64.b64encode(parsed.subject.public_bytes()).decode(),
        cert_issuer_public_key=base64.b64encode(public_key).decode(),
    )


def _may_sign_certificates(cert: x509.Certificate) -> bool:
    from cryptography import x509

    try:
        return bool(cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False


def _load(pem: str) -> x509.Certificate:
    from cryptography import x509

    return x509.load_pem_x509_certificate(pem.encode())


def _load_all(pem: str) -> list[x509.Certificate]:
    from cryptography import x509

    if _BEGIN not in pem:
        return []
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        raise _invalid(f"invalid root certificates: {error}") from None


def _invalid(text: str) -> EnxameError:
    return rpc_error("InvalidArgument", text)
