"""How verdicts on nodes get into the store, and what a new leader grants to those it has not heard of."""

from datetime import UTC, datetime

from enxame.control.heartbeats import Health
from enxame.manager.failure_detector import RESTARTING, FailureDetector
from enxame.model.node import Node, NodeStatus
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store


async def test_a_node_that_restarts_while_the_leader_changes_keeps_its_time():
    store = Store(MemoryBackend(), wall=lambda: datetime.now(UTC))
    await store.start()
    try:

        def create(tx):
            tx.create(Node(id="plain", status=NodeStatus(state="ready")))
            tx.create(Node(id="restarting", status=NodeStatus(state="ready", message=RESTARTING.format(seconds=20))))

        await store.update(create)
        detector = FailureDetector(store, "m1", lambda: 0.0, lambda _: None)
        await detector.start(takeover=True)
        seen = {}
        for step in range(1, 60):
            for node_id, health in detector._book.tick(step * 0.25, 0.25):
                seen[node_id] = (step * 0.25, health)
        assert seen["plain"][1] is Health.DOWN
        assert "restarting" not in seen, "the time of nodes that return after a restarted manager"
    finally:
        await store.close()
