import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from enxame.errors import EnxameError
from enxame.membership import certificate_files
from enxame.membership.certificate_files import has_expired, seconds_to_renewal
from enxame.security import ca
from enxame.transport.identity import Identity

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OLD = Identity("old certificate", "old key", "root")
NEW = Identity("new certificate", "new key", "root")


def test_what_was_written_is_read(tmp_path) -> None:
    assert certificate_files.read(tmp_path) is None
    certificate_files.write(tmp_path, OLD)
    assert certificate_files.read(tmp_path) == OLD
    certificate_files.write(tmp_path, NEW)
    assert certificate_files.read(tmp_path) == NEW
    place = tmp_path / "certificates"
    assert sorted(path.name for path in place.iterdir()) == [
        "swarm-node.crt",
        "swarm-node.key",
        "swarm-root-ca.crt",
    ]
    assert stat.S_IMODE((place / "swarm-node.key").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("left_behind", "expected"),
    [
        ({"swarm-node.key.new": "new key"}, OLD),
        ({"swarm-node.key.new": "new key", "swarm-node.crt.new": "new certificate"}, NEW),
        ({"swarm-node.key": "new key", "swarm-node.crt.new": "new certificate"}, NEW),
    ],
)
def test_a_crash_leaves_the_old_pair_or_the_new_one(tmp_path, left_behind, expected) -> None:
    certificate_files.write(tmp_path, OLD)
    for name, text in left_behind.items():
        (tmp_path / "certificates" / name).write_text(text)
    assert certificate_files.read(tmp_path) == expected


def test_what_cannot_be_read_is_named(tmp_path) -> None:
    certificate_files.write(tmp_path, OLD)
    (tmp_path / "certificates" / "swarm-node.key").unlink()
    (tmp_path / "certificates" / "swarm-node.key").mkdir()
    with pytest.raises(EnxameError, match="cannot read this node's certificate in"):
        certificate_files.read(tmp_path)


def test_how_long_a_certificate_does() -> None:
    pair = ca.issue_node_certificate(
        ca.create_root(NOW), node_id="n", role="worker", cluster_id="c", expiry=timedelta(hours=10), now=NOW
    )
    own = Identity(pair.cert, pair.key, "")
    assert seconds_to_renewal(own, NOW, 0.0) == pytest.approx(5 * 3600, abs=1)
    assert seconds_to_renewal(own, NOW + timedelta(hours=9), 1.0) == pytest.approx(-3600, abs=1)
    assert not has_expired(own, NOW + timedelta(hours=9))
    assert has_expired(own, NOW + timedelta(hours=10))


# Of locked managers, and while the root is rotated


def pair() -> Identity:
    root = ca.create_root(NOW)
    own = ca.issue_node_certificate(
        root, node_id="n1", role="manager", cluster_id="c1", expiry=timedelta(days=1), now=NOW
    )
    return Identity(own.cert, own.key, root.cert)


def test_a_locked_manager_s_key_is_encrypted_on_the_disk(tmp_path):
    own = pair()
    certificate_files.write(tmp_path, own, "a passphrase")
    stored = (tmp_path / "certificates" / "swarm-node.key").read_text()
    assert "ENCRYPTED PRIVATE KEY" in stored
    assert certificate_files.is_encrypted(tmp_path)
    assert load_pem_private_key(stored.encode(), b"a passphrase")
    assert certificate_files.read(tmp_path, "a passphrase") == own
    for wrong in ("", "another"):
        with pytest.raises(EnxameError, match="cannot read this node's certificate"):
            certificate_files.read(tmp_path, wrong)
    certificate_files.write(tmp_path, own)
    assert not certificate_files.is_encrypted(tmp_path)
    assert certificate_files.read(tmp_path, "a passphrase") == own


def test_the_root_to_come_is_kept_beside_the_root(tmp_path):
    own = replace(pair(), next_root=ca.create_root(NOW).cert)
    certificate_files.write(tmp_path, own)
    assert certificate_files.read(tmp_path) == own
    certificate_files.write(tmp_path, replace(own, next_root=""))
    assert certificate_files.read(tmp_path) == replace(own, next_root="")
