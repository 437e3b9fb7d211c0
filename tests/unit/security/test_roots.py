"""Given roots, cross-signed roots, and which root a certificate is of."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from enxame.errors import InvalidArgument
from enxame.security import roots
from enxame.security.ca import KeyPair, create_root, issue_node_certificate, tls_info
from enxame.security.ca_request import cross_signing_request

NOW = datetime.now(UTC).replace(microsecond=0)
OLD = create_root(NOW)
NEW = create_root(NOW)
RPC = "rpc error: code = InvalidArgument desc = "


def made_root(*, key=None, years=20, is_ca=True, identifier=True, name="company ca") -> KeyPair:
    """A root as other programs make them."""
    key = key or ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name.from_rfc4514_string(f"CN={name}")
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=365 * years))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if identifier:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    cert = builder.sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    return KeyPair(
        cert.public_bytes(pem).decode(),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode(),
    )


def certificate(root: KeyPair) -> str:
    return issue_node_certificate(
        root, node_id="n1", role="worker", cluster_id="c1", expiry=timedelta(days=1), now=NOW
    ).cert


@pytest.mark.parametrize("new", [NEW, made_root(), made_root(key=rsa.generate_private_key(65537, 2048))])
def test_a_certificate_of_the_new_root_is_believed_by_who_only_knows_the_old_one(new, tmp_path):
    crossed = roots.cross_sign(OLD, new.cert)
    pair = issue_node_certificate(new, node_id="n1", role="manager", cluster_id="c1", expiry=timedelta(days=1), now=NOW)
    for trusted, chain, believed in (
        (OLD.cert, pair.cert + crossed, True),
        (new.cert, pair.cert + crossed, True),
        (OLD.cert, pair.cert, False),
        (create_root(NOW).cert, pair.cert + crossed, False),
    ):
        assert handshake(tmp_path, KeyPair(chain, pair.key), trusted) is believed


def handshake(directory, shown: KeyPair, trusted: str) -> bool:
    """Whether a client that trusts these roots believes a server that shows this chain."""
    (directory / "cert").write_text(shown.cert)
    (directory / "key").write_text(shown.key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "cert", directory / "key")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cadata=trusted)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (one, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                return False
    return True


def test_the_cross_signed_root_is_the_new_one_but_for_its_signer():
    new, crossed = (x509.load_pem_x509_certificate(pem.encode()) for pem in (NEW.cert, roots.cross_sign(OLD, NEW.cert)))
    assert (crossed.subject, crossed.public_key()) == (new.subject, new.public_key())
    assert crossed.not_valid_after_utc == new.not_valid_after_utc
    crossed.verify_directly_issued_by(x509.load_pem_x509_certificate(OLD.cert.encode()))
    assert not roots.is_issued_by(roots.cross_sign(OLD, NEW.cert), NEW.cert)


def test_which_root_a_certificate_is_of():
    cert = certificate(NEW)
    assert roots.is_issued_by(cert, NEW.cert)
    assert roots.is_issued_by(cert + roots.cross_sign(OLD, NEW.cert), NEW.cert)
    assert not roots.is_issued_by(cert, OLD.cert)
    assert not roots.is_issued_by("nonsense", OLD.cert)


def test_what_a_node_shows_says_who_issued_its_certificate_and_whom_it_trusts():
    assert roots.shown_tls_info(certificate(OLD), OLD.cert) == tls_info(OLD.cert)
    during = roots.shown_tls_info(certificate(NEW), OLD.cert, NEW.cert)
    wanted = tls_info(NEW.cert)
    assert during.trust_root == OLD.cert
    assert (during.cert_issuer_subject, during.cert_issuer_public_key) == (
        wanted.cert_issuer_subject,
        wanted.cert_issuer_public_key,
    )
    assert roots.shown_tls_info(certificate(OLD), OLD.cert, NEW.cert) == tls_info(OLD.cert)


@pytest.mark.parametrize(
    "given", [OLD, made_root(), made_root(identifier=False), made_root(key=rsa.generate_private_key(65537, 2048))]
)
def test_roots_of_any_maker_are_taken_and_sign(given):
    roots.check_root(given.cert, given.key, NOW)
    roots.check_root(given.cert, "", NOW)
    assert roots.is_issued_by(certificate(given), given.cert)


SHORT = made_root(years=0)
LEAF = made_root(is_ca=False)
SMALL = made_root(key=rsa.generate_private_key(65537, 1024))


@pytest.mark.parametrize(
    ("cert", "key", "message"),
    [
        ("nonsense", "", "no valid root CA certificates found"),
        (OLD.cert + NEW.cert, "", "the desired CA certificate cannot contain multiple certificates"),
        (LEAF.cert, LEAF.key, "certificate not a CA"),
        (SHORT.cert, SHORT.key, "CA certificate expires too soon"),
        (OLD.cert, NEW.key, "certificate key mismatch"),
        (SMALL.cert, SMALL.key, "unsupported RSA key size"),
        (
            roots.cross_sign(OLD, NEW.cert),
            "",
            "error while validating Root CA Certificate: the certificate is not signed by itself",
        ),
    ],
)
def test_what_cannot_be_a_root_is_refused(cert, key, message):
    with pytest.raises(InvalidArgument) as refused:
        roots.check_root(cert, key, NOW)
    assert refused.value.message == RPC + message


def test_a_key_that_cannot_be_read_is_refused():
    with pytest.raises(InvalidArgument, match="malformed private key"):
        roots.check_root(OLD.cert, "nonsense", NOW)


def test_space_does_not_make_another_certificate():
    assert roots.normalised("\n  " + OLD.cert.replace("\n", " \r\n") + "\n\n") == OLD.cert
    assert roots.normalised("  \n") == ""


def test_another_ca_is_asked_to_certify_the_new_root_with_its_own_names():
    made = cross_signing_request(made_root(name="next,O=Company,C=BR"))
    request = x509.load_pem_x509_csr(made.request.encode())
    assert request.is_signature_valid
    assert made.common_name == "next"
    assert made.names == [{"C": "BR", "ST": "", "L": "", "O": "Company", "OU": "", "SerialNumber": ""}]
    assert (made.constraints.hex(), made.critical) == ("30030101ff", True)
