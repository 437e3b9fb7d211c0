"""The list of revoked certificates, as openssl reads it."""

from datetime import UTC, datetime, timedelta

from cryptography import x509

from enxame.security.ca import create_root, issue_node_certificate, serial_number
from enxame.security.revocation_list import revocation_list

NOW = datetime.now(UTC)
ROOT = create_root(NOW)
OWN = issue_node_certificate(ROOT, node_id="m1", role="manager", cluster_id="c1", expiry=timedelta(days=1), now=NOW)


def test_it_names_the_certificates_that_are_revoked_and_no_others():
    read = x509.load_pem_x509_crl(revocation_list(OWN.cert, OWN.key, [serial_number(OWN.cert), 5]).encode())
    assert {entry.serial_number for entry in read} == {serial_number(OWN.cert), 5}
    assert read.is_signature_valid(x509.load_pem_x509_certificate(OWN.cert.encode()).public_key())
    assert list(x509.load_pem_x509_crl(revocation_list(OWN.cert, OWN.key, []).encode())) == []
