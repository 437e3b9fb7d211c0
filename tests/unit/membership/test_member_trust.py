"""When an etcd member starts again, and what it reads."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from enxame.membership.member_files import MemberFiles
from enxame.membership.member_trust import distrusted, turn
from enxame.model.node import ManagerStatus, Node
from enxame.security import ca
from enxame.testing.sync_store import SyncStore
from enxame.transport.identity import Identity

NOW = datetime.now(UTC)
OLD, NEW = ca.create_root(NOW), ca.create_root(NOW)


@pytest.mark.parametrize(
    ("started_with", "believed", "expected"),
    [
        (OLD.cert, OLD.cert, False),
        (OLD.cert, OLD.cert + NEW.cert, False),
        (OLD.cert + NEW.cert, NEW.cert, True),
        (OLD.cert, NEW.cert, True),
        (OLD.cert + "\n", " " + OLD.cert, False),
        ("", NEW.cert, False),
    ],
)
def test_a_member_starts_again_when_it_believes_a_root_that_is_none_any_more(
    started_with: str, believed: str, expected: bool
) -> None:
    assert distrusted(started_with, believed) is expected


def test_managers_take_turns_and_who_leads_comes_last() -> None:
    store = SyncStore(lambda: NOW)

    def create(tx):
        for node_id in ("a", "b", "c"):
            tx.create(Node(id=node_id, manager_status=ManagerStatus()))
        tx.create(Node(id="worker"))

    store.update(create)
    assert [turn(store.view, node_id, "a") for node_id in ("a", "b", "c")] == [2, 0, 1]
    assert [turn(store.view, node_id, "") for node_id in ("a", "b", "c")] == [0, 1, 2]
    assert turn(store.view, "worker", "a") == 0


def test_a_member_s_files_are_for_the_owner_alone_and_go_when_they_are_not_needed(tmp_path) -> None:
    pair = ca.issue_node_certificate(
        OLD, node_id="m1", role="manager", cluster_id="c1", expiry=timedelta(days=1), now=NOW
    )
    own = Identity(pair.cert, pair.key, OLD.cert, NEW.cert)
    files = MemberFiles(tmp_path / "swarm")
    files.write(own)
    paths = files.paths
    assert (paths.cert.read_text(), paths.key.read_text()) == (pair.cert, pair.key)
    assert paths.ca.read_text() == OLD.cert + NEW.cert
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "swarm").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "swarm").stat().st_mode) == 0o700

    files.revoke(own, [7])
    files.write(own)
    assert paths.revoked is not None
    revoked = x509.load_pem_x509_crl(paths.revoked.read_bytes())
    assert [entry.serial_number for entry in revoked] == [7], "a new certificate does not forget who is revoked"

    files.remove()
    assert list((tmp_path / "swarm").iterdir()) == []
