import base64
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from enxame.errors import InvalidArgument
from enxame.security.ca import (
    create_root,
    issue_node_certificate,
    new_signing_request,
    node_identity,
    sign_request,
    tls_info,
)

NOW = datetime.now(UTC).replace(microsecond=0)
ROOT = create_root(NOW)


def issue(root=ROOT, role="manager", **changes):
    given = {"node_id": "n1", "role": role, "cluster_id": "c1", "expiry": timedelta(days=90), "now": NOW, **changes}
    return issue_node_certificate(root, **given)


def test_the_root_is_swarms():
    cert = x509.load_pem_x509_certificate(ROOT.cert.encode())
    assert cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "swarm-ca"
    assert isinstance(cert.public_key().curve, ec.SECP256R1)
    assert cert.not_valid_before_utc < NOW
    assert cert.not_valid_after_utc == NOW + timedelta(seconds=630720000)
    assert cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("role", ["manager", "worker"])
def test_a_nodes_certificate_says_who_it_is(role):
    pair = issue(role=role)
    identity = node_identity(pair.cert)
    assert (identity.node_id, identity.role, identity.cluster_id) == ("n1", role, "c1")
    assert identity.not_before == NOW - timedelta(hours=1)
    assert identity.not_after == NOW + timedelta(days=90)
    cert = x509.load_pem_x509_certificate(pair.cert.encode())
    cert.verify_directly_issued_by(x509.load_pem_x509_certificate(ROOT.cert.encode()))
    assert not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_request_is_signed_with_the_signers_words():
    key, request = new_signing_request()
    cert = sign_request(ROOT, request, node_id="n2", role="worker", cluster_id="c1", expiry=timedelta(hours=1), now=NOW)
    assert node_identity(cert).node_id == "n2"
    assert "PRIVATE KEY" in key


@pytest.mark.parametrize("request_text", ["", "nonsense", ROOT.cert])
def test_what_is_no_request_is_refused(request_text):
    with pytest.raises(InvalidArgument, match=r"cannot be read"):
        sign_request(ROOT, request_text, node_id="n", role="worker", cluster_id="c", expiry=timedelta(hours=1), now=NOW)


@pytest.mark.parametrize("cert", ["", "nonsense", ROOT.cert])
def test_what_is_no_nodes_certificate_is_refused(cert):
    with pytest.raises(InvalidArgument):
        node_identity(cert)


def test_tls_info_shows_the_issuer():
    info = tls_info(ROOT.cert)
    cert = x509.load_pem_x509_certificate(ROOT.cert.encode())
    assert info.trust_root == ROOT.cert
    assert base64.b64decode(info.cert_issuer_subject) == cert.subject.public_bytes()
    assert base64.b64decode(info.cert_issuer_public_key)


def shake_hands(tmp_path, server_pair, client_pair, client_root):
    """A mutual TLS handshake in memory. Raises ssl.SSLError when one does not trust the other."""

    def context(purpose, pair, root):
        (tmp_path / f"{purpose}.crt").write_text(pair.cert)
        (tmp_path / f"{purpose}.key").write_text(pair.key)
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if purpose == "server" else ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname = purpose == "client"
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_cert_chain(tmp_path / f"{purpose}.crt", tmp_path / f"{purpose}.key")
        made.load_verify_locations(cadata=root.cert)
        return made

    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context("server", server_pair, ROOT).wrap_bio(to_server, to_client, server_side=True)
    client = context("client", client_pair, client_root).wrap_bio(to_client, to_server, server_hostname="swarm-manager")
    done = set()
    for _ in range(10):
        for side in (client, server):
            if side in done:
                continue
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    assert len(done) == 2
    server.write(b"hello")
    return client.read(5)


def test_nodes_of_one_swarm_trust_each_other(tmp_path):
    assert shake_hands(tmp_path, issue(), issue(role="worker", node_id="n2"), ROOT) == b"hello"


def test_a_node_of_another_swarm_is_not_trusted(tmp_path):
    other = create_root(NOW)
    with pytest.raises(ssl.SSLError):
        shake_hands(tmp_path, issue(), issue(other, "worker"), ROOT)
    with pytest.raises(ssl.SSLError):
        shake_hands(tmp_path, issue(), issue(role="worker"), other)


def test_a_worker_is_not_taken_for_a_manager(tmp_path):
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path, issue(role="worker"), issue(role="worker"), ROOT)


def test_an_idle_daemon_does_not_load_the_cryptography_library():
    code = "import sys, enxame.manager.manager; sys.exit(any(name.startswith('cryptography') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
