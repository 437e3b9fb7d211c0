"""The swarm's certificate authority and the certificates of its nodes.

Everything is PEM text. A node's certificate says who it is: common name = node id, organisational unit = role,
organisation = cluster id. ``cryptography`` is imported only when something is made or read: it costs memory.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NotRequired, TypedDict, Unpack

from enxame.errors import InvalidArgument
from enxame.model.cluster import TLSInfo

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

__all__ = [
    "MIN_NODE_CERT_EXPIRY",
    "KeyPair",
    "NodeIdentity",
    "certified_addresses",
    "create_root",
    "issue_node_certificate",
    "key_in_request",
    "new_signing_request",
    "node_identity",
    "serial_number",
    "sign_request",
    "tls_info",
]

ROOT_NAME: Final = "swarm-ca"
ROOT_LIFETIME: Final = timedelta(seconds=630_720_000)
#: Certificates begin a little in the past: nodes' clocks differ.
BACKDATE: Final = timedelta(hours=1)
MIN_NODE_CERT_EXPIRY: Final = timedelta(hours=1)

_UNITS: Final = {"manager": "swarm-manager", "worker": "swarm-worker"}


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, PEM."""

    cert: str
    key: str


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """What a node's certificate says. ``role``: manager|worker."""

    node_id: str
    role: str
    cluster_id: str
    not_before: datetime
    not_after: datetime


class Certified(TypedDict):
    """What a node's certificate says. ``addresses`` are IP addresses that it is valid for: etcd members are checked by
    them among each other.
    """

    node_id: str
    role: str
    cluster_id: str
    expiry: timedelta
    now: datetime
    addresses: NotRequired[Sequence[str]]


def create_root(now: datetime) -> KeyPair:
    """A new self-signed root: ECDSA P-256, 20 years."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ROOT_NAME)])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(_cert_pem(cert), _key_pem(key))


def issue_node_certificate(root: KeyPair, **certified: Unpack[Certified]) -> KeyPair:
    """A new key with its certificate, for a node that is this process."""
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    cert = _sign(root, key.public_key(), **certified)
    return KeyPair(cert, _key_pem(key))


def new_signing_request() -> tuple[str, str]:
    """A new key and the request for its certificate: (key, request). The signer decides what the certificate says."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return _key_pem(key), request.public_bytes(serialization.Encoding.PEM).decode()


def key_in_request(request: str) -> bytes:
    """The public key that a signing request is for. Raises InvalidArgument as :func:`sign_request`."""
    from cryptography.hazmat.primitives import serialization

    key = _read_request(request).public_key()
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _read_request(request: str) -> x509.CertificateSigningRequest:
    from cryptography import x509

    try:
        parsed = x509.load_pem_x509_csr(request.encode())
    except ValueError as error:
        raise InvalidArgument(f"the certificate request cannot be read: {error}") from error
    if not parsed.is_signature_valid:
        raise InvalidArgument("the certificate request is not signed by its own key")
    return parsed


def sign_request(root: KeyPair, request: str, **certified: Unpack[Certified]) -> str:
    """A certificate for the key of a signing request; names in the request are ignored.

    Raises:
        InvalidArgument: the request cannot be read or is not signed by its key.
    """
    return _sign(root, _read_request(request).public_key(), **certified)


def node_identity(cert: str) -> NodeIdentity:
    """Read a node's certificate. Raises InvalidArgument when it is none."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        parsed = x509.load_pem_x509_certificate(cert.encode())
        texts = {
            oid: str(parsed.subject.get_attributes_for_oid(oid)[0].value)
            for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME)
        }
    except (ValueError, IndexError) as error:
        raise InvalidArgument("this is not the certificate of a node") from error
    unit = texts[NameOID.ORGANIZATIONAL_UNIT_NAME]
    role = next((role for role, name in _UNITS.items() if name == unit), "")
    if not role:
        raise InvalidArgument(f"a node's certificate has no role {unit}")
    return NodeIdentity(
        texts[NameOID.COMMON_NAME],
        role,
        texts[NameOID.ORGANIZATION_NAME],
        parsed.not_valid_before_utc,
        parsed.not_valid_after_utc,
    )


def certified_addresses(cert: str) -> frozenset[str]:
    """The IP addresses that a certificate is good for."""
    from cryptography import x509

    extensions = x509.load_pem_x509_certificate(cert.encode()).extensions
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(str(address) for address in names.get_values_for_type(x509.IPAddress))


def serial_number(cert: str) -> int:
    """A certificate's serial number (of the first one of a chain)."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(cert.encode()).serial_number


def tls_info(ca_cert: str) -> TLSInfo:
    """What nodes and the swarm show of whom they trust."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    cert = x509.load_pem_x509_certificate(ca_cert.encode())
    public_key = cert.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return TLSInfo(
        trust_root=ca_cert,
        cert_issuer_subject=base64.b64encode(cert.subject.public_bytes()).decode(),
        cert_issuer_public_key=base64.b64encode(public_key).decode(),
    )


def _sign(root: KeyPair, public_key: CertificatePublicKeyTypes, **certified: Unpack[Certified]) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    issuer = x509.load_pem_x509_certificate(root.cert.encode())
    key = serialization.load_pem_private_key(root.key.encode(), password=None)
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise InvalidArgument("the root key is neither an elliptic curve nor an RSA key")
    unit = _UNITS[certified["role"]]
    node_id, now = certified["node_id"], certified["now"]
    names = [unit, node_id] + ([ROOT_NAME] if certified["role"] == "manager" else [])
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in certified.get("addresses", ())]
    cert = (
        x509.CertificateBuilder()
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, certified["cluster_id"]),
                    x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
                    x509.NameAttribute(NameOID.COMMON_NAME, node_id),
                ]
            )
        )
        .issuer_name(issuer.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + certified["expiry"])
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(authority_key_identifier(issuer), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _cert_pem(cert)


def authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """How certificates say whose key signed them. Roots of other makers may have no identifier of their own."""
    from cryptography import x509

    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _cert_pem(cert: x509.Certificate) -> str:
    from cryptography.hazmat.primitives import serialization

    return cert.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
