"""A real cfssl as a certificate signer: its root, its server, over HTTPS on loopback or in a namespace."""

from __future__ import annotations

import ipaddress
import json
import shutil
import socket
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from enxame.security.ca import KeyPair
from enxame.security.roots import load_key

PROGRAM: Final = "cfssl"
_DEADLINE: Final = 10.0
_CONFIG: Final = {
    "signing": {
        "default": {"expiry": "2160h", "usages": ["signing", "key encipherment", "server auth", "client auth"]},
        "profiles": {
            "CA": {
                "usages": ["cert sign", "crl sign"],
                "expiry": "43800h",
                "ca_constraint": {"is_ca": True, "max_path_len": 1},
                "allowed_extensions": ["2.5.29.19"],
            }
        },
    }
}


def company_root(name: str = "Company CA") -> KeyPair:
    """A root that no swarm made."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name.from_rfc4514_string(f"CN={name}")
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder(subject, subject, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pair(cert, key)


class Cfssl:
    """Signs with ``root`` at :attr:`url` until the block ends, for clients of this root and of ``also_trusted`` (PEM).
    ``prefix`` runs it elsewhere (``nsenter …``).
    """

    def __init__(
        self,
        directory: Path,
        root: KeyPair,
        *,
        also_trusted: str = "",
        address: str = "127.0.0.1",
        port: int = 0,
        prefix: Sequence[str] = (),
    ) -> None:
        self.root = root
        self._also_trusted = also_trusted
        self._address = address
        self._port = port or _free_port()
        self._directory = directory
        self._prefix = prefix
        self.url = f"https://{address}:{self._port}/api/v1/cfssl/sign"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = shutil.which(PROGRAM)
        assert program is not None, f"{PROGRAM} is not installed"
        server = self._server_certificate()
        texts = {
            "ca.pem": self.root.cert,
            "clients.pem": self.root.cert + self._also_trusted,
            "ca-key.pem": _sec1(self.root.key),
            "server.pem": server.cert,
            "server-key.pem": _sec1(server.key),
            "config.json": json.dumps(_CONFIG),
        }
        self._directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (self._directory / name).write_text(text)
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._prefix,
                    *(program, "serve", "-address", self._address, "-port", str(self._port)),
                    *("-ca", "ca.pem", "-ca-key", "ca-key.pem", "-config", "config.json"),
                    *("-tls-cert", "server.pem", "-tls-key", "server-key.pem"),
                    *("-mutual-tls-ca", "clients.pem"),
                ],
                cwd=self._directory,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_DEADLINE)

    @property
    def log(self) -> str:
        """What it said."""
        return (self._directory / "log").read_text()

    def _server_certificate(self) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        root = x509.load_pem_x509_certificate(self.root.cert.encode())
        now = datetime.now(UTC)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(self._address))])
        cert = (
            x509.CertificateBuilder(root.subject, x509.Name.from_rfc4514_string("CN=signer"), key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(names, critical=False)
            .sign(load_key(self.root.key), hashes.SHA256())
        )
        return _pair(cert, key)


def _pair(cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(
        cert.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )


def _sec1(key: str) -> str:
    """As old programs read keys."""
    return (
        load_key(key)
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        .decode()
    )


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
