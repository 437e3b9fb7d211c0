"""Certificates that grow old while a node is down, and one that is not this swarm's any more."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from enxame.membership import certificate_files
from enxame.membership.sealed_state import sealed_state
from enxame.membership.state_keys import StateKeys
from enxame.model.cluster import Cluster as SwarmObject
from enxame.security import ca
from enxame.store.sqlite import SqliteBackend
from enxame.store.store import Store
from enxame.testing.cluster import Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.transport.identity import Identity

LIFE = timedelta(days=90)
EXPIRED = "Swarm certificates have expired. To replace them, leave the swarm and join again."


def root_of(manager: Machine) -> tuple[str, ca.KeyPair]:
    """The swarm's id and root, from the state of a manager whose daemon does not run."""

    async def read() -> tuple[str, ca.KeyPair]:
        directory = manager.data_root / "swarm"
        state = await sealed_state(SqliteBackend(directory / "state.db"), StateKeys(directory))
        store = Store(state, wall=lambda: datetime.now(UTC))
        await store.start()
        try:
            (found,) = store.view.all(SwarmObject)
            assert found.internal is not None
            return found.id, ca.KeyPair(found.internal.ca_cert, found.internal.ca_key)
        finally:
            await store.close()

    return asyncio.run(read())


@pytest.fixture
def root(cluster: Cluster) -> tuple[str, ca.KeyPair]:
    cluster.manager.stop()
    found = root_of(cluster.manager)
    cluster.manager.start()
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are back")
    return found


def certificate(directory: Path) -> ca.NodeIdentity:
    own = certificate_files.read(directory)
    assert own is not None
    return ca.node_identity(own.certificate)


def let_it_age(machine: Machine, role: str, root: tuple[str, ca.KeyPair], age: timedelta) -> None:
    """Give a node whose daemon does not run a certificate that is so old."""
    node_id, (cluster_id, pair) = certificate(machine.data_root / "swarm").node_id, root
    aged = ca.issue_node_certificate(
        pair, node_id=node_id, role=role, cluster_id=cluster_id, expiry=LIFE, now=datetime.now(UTC) - age
    )
    certificate_files.write(machine.data_root / "swarm", Identity(aged.cert, aged.key, pair.cert))


@pytest.mark.parametrize("which", ["manager", "worker"])
def test_an_ageing_certificate_is_renewed(cluster: Cluster, root, which: str) -> None:
    machine = cluster.manager if which == "manager" else cluster.workers[0]
    directory = machine.data_root / "swarm"
    machine.stop()
    let_it_age(machine, which, root, LIFE * 0.85)
    old = certificate(directory)
    machine.start()
    wait_until(lambda: certificate(directory).not_after > old.not_after + LIFE / 2, "a new certificate", timeout=20)
    renewed = certificate(directory)
    assert (renewed.node_id, renewed.role, renewed.cluster_id) == (old.node_id, old.role, old.cluster_id)
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are ready", timeout=20)

    # The new one is good for new links.
    machine.stop()
    machine.start()
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are ready again", timeout=20)
    assert certificate(directory) == renewed


def test_a_worker_whose_certificate_has_expired_says_so_and_keeps_its_tasks(cluster: Cluster, root) -> None:
    worker = cluster.workers[0]
    here = {"Placement": {"Constraints": [f"node.id=={worker.swarm()['NodeID']}"]}}
    cluster.create_service("web", 1, TaskTemplate=here)
    worker.stop()
    let_it_age(worker, "worker", root, LIFE * 1.1)
    worker.start()
    assert (worker.state(), worker.swarm()["Error"]) == ("error", EXPIRED)
    assert len(worker.task_containers()) == 1
    worker.api.post("/swarm/leave")
    assert worker.task_containers() == []
    cluster.join(worker)
    assert worker.state() == "active"


def test_a_manager_whose_certificate_has_expired_signs_itself_a_new_one(cluster: Cluster, root) -> None:
    manager = cluster.manager
    manager.stop()
    let_it_age(manager, "manager", root, LIFE * 1.1)
    manager.start()
    assert manager.state() == "active"
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "the workers believe it", timeout=20)
