"""The certificate authority of a store's machines: who may talk to their daemons, and how a daemon proves itself."""

import datetime
import ipaddress
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from enxame.machine.errors import MachineError
from enxame.machine.store import write_file

_LIFETIME: Final = datetime.timedelta(days=1080)
#: Clocks of machines differ a little.
_BACKDATED: Final = datetime.timedelta(hours=1)


class Authority:
    """``ca.pem`` and ``ca-key.pem`` sign; ``cert.pem`` and ``key.pem`` are the user's own."""

    def __init__(self, ca: Path, ca_key: Path, client: Path, client_key: Path) -> None:
        self.ca, self.ca_key, self.client, self.client_key = ca, ca_key, client, client_key

    def ensure(self) -> None:
        """Makes what is missing. The caller holds a lock. Raises MachineError for a certificate without its key."""
        if not self.ca.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            write_file(self.ca_key, _pem(key))
            name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "enxame-machine")])
            usage = x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            )
            builder = _builder(name, name, key.public_key()).add_extension(
                x509.BasicConstraints(ca=True, path_length=0), critical=True
            )
            builder = builder.add_extension(usage, critical=True)
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            write_file(self.ca, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), 0o644)
            self.client.unlink(missing_ok=True)
        if not self.client.exists():
            self.renew_client()

    def renew_client(self) -> None:
        """A new certificate for the user."""
        self.issue(self.client, self.client_key, "client", (), ExtendedKeyUsageOID.CLIENT_AUTH)

    def issue_server(self, certificate: Path, key: Path, names: Sequence[str]) -> None:
        """A certificate for a daemon that is called by ``names`` (host names and addresses)."""
        self.issue(certificate, key, names[0], names, ExtendedKeyUsageOID.SERVER_AUTH)

    def issue(
        self, certificate: Path, key_file: Path, common_name: str, names: Iterable[str], purpose: x509.ObjectIdentifier
    ) -> None:
        """Writes a certificate and its new key."""
        issuer, issuer_key = self._load()
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "enxame-machine"),
                x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64]),
            ]
        )
        builder = _builder(subject, issuer.subject, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        alternatives = [_general_name(name) for name in dict.fromkeys(names)]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        write_file(key_file, _pem(key))
        signed = builder.sign(issuer_key, hashes.SHA256())
        write_file(certificate, signed.public_bytes(serialization.Encoding.PEM), 0o644)

    def _load(self) -> tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes]:
        try:
            certificate = x509.load_pem_x509_certificate(self.ca.read_bytes())
            key = serialization.load_pem_private_key(self.ca_key.read_bytes(), None)
        except FileNotFoundError as missing:
            raise MachineError(
                f"the machines' certificate authority is incomplete: {missing.filename} is missing"
            ) from None
        except (ValueError, TypeError) as problem:
            raise MachineError(f"the machines' certificate authority cannot be read: {problem}") from None
        return certificate, key  # type: ignore[return-value]


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _BACKDATED).not_valid_after(now + _LIFETIME)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
