"""The swarm's root: rotated under a running service, by all nodes or not at all."""

from __future__ import annotations

import re

import pytest

from enxame.membership import certificate_files
from enxame.security import roots
from enxame.testing.cluster import Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError


def trust_root(cluster: Cluster) -> str:
    return str(cluster.manager.api.get("/swarm")["TLSInfo"]["TrustRoot"])


def rotate(cluster: Cluster, **config: object) -> None:
    swarm = cluster.manager.api.get("/swarm")
    settings = swarm["Spec"].get("CAConfig", {})
    if not config:
        config = {"ForceRotate": settings.get("ForceRotate", 0) + 1}
    spec = {**swarm["Spec"], "CAConfig": {**settings, **config}}
    cluster.manager.api.post("/swarm/update", spec, version=str(swarm["Version"]["Index"]))


def rotates(cluster: Cluster) -> bool:
    return bool(cluster.manager.api.get("/swarm")["RootRotationInProgress"])


def own(machine: Machine):
    found = certificate_files.read(machine.data_root / "swarm")
    assert found is not None
    return found


def test_the_root_is_rotated_while_a_service_runs(cluster: Cluster, docker) -> None:
    manager = docker(cluster.manager)
    old = trust_root(cluster)
    assert manager("swarm", "ca").strip() == old.strip()
    tokens = cluster.manager.api.get("/swarm")["JoinTokens"]
    cluster.create_service("web", 3)
    tasks = {task["ID"] for task in cluster.running("web")}

    shown = manager("swarm", "ca", "--rotate")

    new = trust_root(cluster)
    assert new != old
    assert new.strip() in shown
    assert "desired root digest: sha256:" in shown
    assert not rotates(cluster)
    assert set(manager("node", "ls", "--format", "{{.TLSStatus}}").split("\n")) == {"Ready"}
    for machine in cluster.machines:
        trusted = own(machine)
        assert (trusted.root, trusted.next_root) == (new, "")
        assert roots.is_issued_by(trusted.certificate, new)
    after = cluster.manager.api.get("/swarm")["JoinTokens"]
    assert not set(after.values()) & set(tokens.values())
    assert {task["ID"] for task in cluster.running("web")} == tasks
    assert set(cluster.states().values()) == {"ready"}

    # The new root is what everybody stands on: all start again with it, and others join with it.
    for machine in cluster.machines:
        machine.stop()
    for machine in cluster.machines:
        machine.start()
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are back", timeout=20)
    assert {task["ID"] for task in cluster.running("web")} == tasks
    worker = cluster.workers[-1]
    worker.api.post("/swarm/leave")
    with pytest.raises(ApiError, match="remote CA does not match fingerprint"):
        cluster.join(worker, JoinToken=tokens["Worker"])
    cluster.join(worker)


def test_a_node_that_is_down_keeps_the_rotation_open(cluster: Cluster, docker) -> None:
    manager = docker(cluster.manager)
    old = trust_root(cluster)
    away, gone = cluster.workers
    gone_id = gone.swarm()["NodeID"]
    away.stop()
    gone.stop()
    assert manager("swarm", "ca", "--rotate", "--detach") == ""
    wait_until(lambda: cluster.node(cluster.manager)["Description"]["TLSInfo"]["TrustRoot"] == old, "it is under way")
    status = "{{.Hostname}} {{.TLSStatus}}"

    def statuses() -> dict[str, str]:
        rows = (line.split(" ", 1) for line in manager("node", "ls", "--format", status).splitlines())
        return {name: state for name, state in rows}

    ready = {"node1": "Ready", "node2": "Needs Rotation", "node3": "Needs Rotation"}
    wait_until(lambda: statuses() == ready, "the manager has a new certificate")
    assert rotates(cluster)
    assert trust_root(cluster) == old
    assert re.search(r"Root Rotation In Progress: true", manager("info"))

    # One that comes back, with a certificate of the old root and knowing no other, is let in and gets a new one.
    away.start()
    wait_until(lambda: statuses()["node2"] == "Ready", "the node that came back has a new certificate", timeout=20)
    assert rotates(cluster)
    wait_until(lambda: cluster.states()[gone_id] == "down", "the other is missed")
    manager("node", "rm", gone_id)
    wait_until(lambda: not rotates(cluster), "nobody is waited for")
    assert trust_root(cluster) != old

    # The one that missed it all is out.
    gone.start()
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "the others are well")
    assert gone.state() in ("pending", "error")
    gone.api.post("/swarm/leave", force="1")
