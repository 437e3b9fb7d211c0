"""Which certificates of managers are revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from enxame.control import revocation
from enxame.control.board import Board
from enxame.control.now import Now
from enxame.model.cluster import Cluster, ClusterSecrets
from enxame.model.node import ManagerStatus, Node, NodeDescription, NodeSpec
from enxame.testing.sync_store import SyncStore

START = datetime(2026, 1, 1, tzinfo=UTC)


def node(node_id: str, serial: str, *, role: str = "manager", member: bool = True) -> Node:
    return Node(
        id=node_id,
        spec=NodeSpec(role=role),
        description=NodeDescription(certificate_serial=serial),
        manager_status=ManagerStatus() if member else None,
    )


class Swarm:
    """A swarm whose leader looks at everything when it is asked to."""

    def __init__(self) -> None:
        self.store = SyncStore(lambda: START)
        self.store.update(lambda tx: tx.create(Cluster(id="c", internal=ClusterSecrets(ca_cert="ROOT"))))

    def put(self, wanted: Node) -> None:
        known = self.store.view.get(Node, wanted.id)
        if known is None:
            self.store.update(lambda tx: tx.create(wanted))
        else:
            self.store.update(lambda tx: tx.update(replace(wanted, version=known.version)))

    def remove(self, node_id: str) -> None:
        self.store.update(lambda tx: tx.delete(Node, node_id))

    def look(self, later: timedelta = timedelta()) -> ClusterSecrets:
        board = Board()

        def review(tx):
            board.load(tx, Now(0.0, START + later))
            revocation.review(board)

        self.store.update(review)
        (cluster,) = self.store.view.all(Cluster)
        assert cluster.internal.ca_cert == "ROOT"
        return cluster.internal


@pytest.fixture
def swarm() -> Swarm:
    made = Swarm()
    made.put(node("m1", "a1"))
    made.put(node("m2", "b1"))
    made.put(node("w1", "c1", role="worker", member=False))
    return made


def test_managers_certificates_are_known_and_none_is_revoked(swarm: Swarm) -> None:
    secrets = swarm.look()
    assert secrets.manager_certificates == {"m1": "a1", "m2": "b1"}
    assert secrets.revoked_certificates == {}
    before = swarm.store.revision
    swarm.look()
    assert swarm.store.revision == before, "nothing is written when nothing is new"


def test_a_manager_that_was_removed_is_locked_out(swarm: Swarm) -> None:
    swarm.look()
    swarm.remove("m2")
    secrets = swarm.look()
    assert set(secrets.revoked_certificates) == {"b1"}
    assert secrets.manager_certificates == {"m1": "a1"}


def test_one_that_becomes_a_worker_is_locked_out_when_its_part_is_taken_from_it_and_not_before(swarm: Swarm) -> None:
    swarm.look()
    swarm.put(node("m2", "b1", role="worker"))
    assert swarm.look().revoked_certificates == {}
    swarm.put(node("m2", "b2", role="worker", member=False))
    secrets = swarm.look()
    assert set(secrets.revoked_certificates) == {"b1"}
    assert "m2" not in secrets.manager_certificates


def test_a_renewed_certificate_takes_the_place_of_the_one_before(swarm: Swarm) -> None:
    swarm.look()
    swarm.put(node("m1", "a2"))
    secrets = swarm.look()
    assert set(secrets.revoked_certificates) == {"a1"}
    assert secrets.manager_certificates["m1"] == "a2"


def test_what_no_certificate_lives_that_long_for_is_forgotten(swarm: Swarm) -> None:
    swarm.look()
    swarm.put(node("m1", "a2"))
    swarm.look()
    swarm.put(node("m1", "a3"))
    secrets = swarm.look(timedelta(seconds=revocation.KEPT + 1))
    assert set(secrets.revoked_certificates) == {"a2"}
