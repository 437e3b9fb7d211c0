"""When a rotation of the root ends."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from enxame.control import root_rotation
from enxame.model.cluster import Cluster, ClusterSecrets, JoinTokens, RootRotation, TLSInfo
from enxame.model.node import Node, NodeDescription, NodeStatus
from enxame.testing.sync_store import SyncStore

OLD = TLSInfo(trust_root="OLD", cert_issuer_subject="s", cert_issuer_public_key="old")
NEW = TLSInfo(trust_root="NEW", cert_issuer_subject="s", cert_issuer_public_key="new")
ROTATION = RootRotation(
    ca_cert="NEW", ca_key="NEWKEY", cross_signed="X", issuer=NEW, join_tokens=JoinTokens(worker="w2", manager="m2")
)
CLUSTER = Cluster(
    id="c",
    tls_info=replace(NEW, trust_root="OLD"),
    root_rotation_in_progress=True,
    join_tokens=JoinTokens(worker="w1", manager="m1"),
    internal=ClusterSecrets(ca_cert="OLD", ca_key="OLDKEY", unlock_key="U", rotation=ROTATION, forced_rotations=3),
)


def node(node_id: str, trusts: TLSInfo, state: str = "ready") -> Node:
    return Node(id=node_id, description=NodeDescription(tls_info=trusts), status=NodeStatus(state=state))


@pytest.fixture
def store() -> SyncStore:
    return SyncStore(lambda: datetime(2026, 1, 1, tzinfo=UTC))


def put(store: SyncStore, *objects: Cluster | Node) -> None:
    def create(tx):
        for obj in objects:
            tx.create(obj)

    store.update(create)


def cluster(store: SyncStore) -> Cluster:
    (found,) = store.view.all(Cluster)
    return found


def test_it_ends_when_every_node_has_a_certificate_of_the_new_root(store: SyncStore) -> None:
    during = replace(NEW, trust_root="OLD")
    put(store, CLUSTER, node("a", during), node("b", during))
    assert store.update(root_rotation.finish)
    found = cluster(store)
    assert (found.tls_info, found.root_rotation_in_progress) == (NEW, False)
    assert found.join_tokens == JoinTokens(worker="w2", manager="m2")
    assert found.internal == ClusterSecrets(ca_cert="NEW", ca_key="NEWKEY", unlock_key="U", forced_rotations=3)
    assert not store.update(root_rotation.finish)


@pytest.mark.parametrize("state", ["ready", "down", "unknown", "disconnected"])
def test_a_node_with_an_old_certificate_keeps_it_open_whatever_became_of_the_node(store: SyncStore, state: str) -> None:
    put(store, CLUSTER, node("a", NEW), node("b", OLD, state), node("c", TLSInfo()))
    assert not store.update(root_rotation.finish)
    assert cluster(store).internal == CLUSTER.internal
    assert root_rotation.waiting_for(store.view) == ["b", "c"]


def test_removing_the_last_node_that_is_waited_for_ends_it(store: SyncStore) -> None:
    put(store, CLUSTER, node("a", NEW), node("b", OLD))
    store.update(lambda tx: tx.delete(Node, "b"))
    assert store.update(root_rotation.finish)


def test_without_a_rotation_nothing_happens(store: SyncStore) -> None:
    assert not store.update(root_rotation.finish)
    still = replace(
        CLUSTER, tls_info=OLD, root_rotation_in_progress=False, internal=ClusterSecrets(ca_cert="OLD", ca_key="OLDKEY")
    )
    put(store, still, node("a", OLD))
    assert not store.update(root_rotation.finish)
    assert cluster(store).internal == still.internal
