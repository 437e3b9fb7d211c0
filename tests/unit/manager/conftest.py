from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from enxame.errors import NotFound
from enxame.manager.manager import Manager
from enxame.manager.networks import ingress_network
from enxame.manager.swarm import new_cluster
from enxame.model.cluster import InitRequest
from enxame.model.node import EngineDescription, ManagerStatus, Node, NodeDescription, NodeSpec, NodeStatus
from enxame.security.ca import create_root
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROOT = create_root(NOW)


class Clock:
    """Wall time that moves only when the test says so."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += timedelta(seconds=seconds)


async def no_logs(task, options):
    raise NotFound(f"no log of {task.id}")
    yield


def manager_node(node_id="node1", hostname="host1", *, leader=True, reachability="reachable"):
    return Node(
        id=node_id,
        spec=NodeSpec(role="manager", availability="active"),
        description=NodeDescription(hostname=hostname, engine=EngineDescription(labels={"disk": "ssd"})),
        status=NodeStatus(state="ready", addr="10.0.0.1"),
        manager_status=ManagerStatus(leader=leader, reachability=reachability, addr="10.0.0.1:2377"),
    )


def worker_node(node_id, hostname, *, state="ready", labels=None):
    return Node(
        id=node_id,
        spec=NodeSpec(role="worker", availability="active", labels=labels or {}),
        description=NodeDescription(hostname=hostname),
        status=NodeStatus(state=state),
    )


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def manager(clock):
    """A manager of a fresh swarm of one node: cluster object, node1, ingress."""
    store = Store(MemoryBackend(), wall=clock)
    await store.start()
    numbers = count(1)
    manager = Manager(
        store,
        node_id="node1",
        read_log=no_logs,
        wall=clock,
        new_id=lambda: f"id{next(numbers)}",
        new_name=lambda: "random-name",
    )

    def found(tx):
        tx.create(new_cluster("cluster1", InitRequest(), ROOT))
        tx.create(ingress_network("ingressid"))
        tx.create(manager_node())

    await store.update(found)
    yield manager
    await store.close()


@pytest.fixture
def put(manager):
    """Store objects as they are."""

    async def put(*objects):
        await manager.store.update(lambda tx: [tx.create(obj) for obj in objects])

    return put
