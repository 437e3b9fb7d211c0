"""Asking another CA to certify our new root: the request for a cross-signed certificate."""

from __future__ import annotations

from dataclasses import dataclass

from enxame.security.ca import KeyPair
from enxame.security.roots import load_key

__all__ = ["CrossSigningRequest", "cross_signing_request"]


@dataclass(frozen=True, slots=True)
class CrossSigningRequest:
    """``request`` is PEM; ``names`` are the subject's parts as cfssl writes them; ``constraints`` is the extension
    (DER) that makes the certificate one of a CA, which signers ignore in the request itself.
    """

    request: str
    common_name: str
    names: list[dict[str, str]]
    constraints: bytes
    critical: bool


def cross_signing_request(new: KeyPair) -> CrossSigningRequest:
    """The request, with the key and the names of the new root."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    root = x509.load_pem_x509_certificate(new.cert.encode())
    builder = x509.CertificateSigningRequestBuilder().subject_name(root.subject)
    for extension in root.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    request = builder.sign(load_key(new.key), hashes.SHA256())
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    common = root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    parts = {
        "C": NameOID.COUNTRY_NAME,
        "ST": NameOID.STATE_OR_PROVINCE_NAME,
        "L": NameOID.LOCALITY_NAME,
        "O": NameOID.ORGANIZATION_NAME,
        "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    }
    name = dict.fromkeys(parts, "") | {"SerialNumber": ""}
    for key, oid in parts.items():
        for attribute in root.subject.get_attributes_for_oid(oid)[:1]:
            name[key] = str(attribute.value)
    return CrossSigningRequest(
        request.public_bytes(serialization.Encoding.PEM).decode(),
        str(common[0].value) if common else "",
        [name] if any(name.values()) else [],
        constraints.value.public_bytes(),
        constraints.critical,
    )
