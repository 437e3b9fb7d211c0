"""Keys of encrypted networks."""

from __future__ import annotations

from enxame.control.assignments import NodeAssignments
from enxame.control.network_table import NetworkTables
from enxame.model.cluster import Cluster, Driver, NetworkKey
from enxame.model.network import Network, NetworkSpec
from enxame.model.node import NodeStatus
from enxame.model.service import NetworkAttachmentConfig
from tests.unit.control.lab import Lab

HOURS = 3600


def keys(lab: Lab) -> list[NetworkKey]:
    cluster = lab.store.view.get(Cluster, "cluster")
    assert cluster is not None
    return cluster.internal.network_keys if cluster.internal is not None else []


def encrypted(lab: Lab) -> None:
    driver = Driver(name="overlay", options={"encrypted": ""})
    lab.put(Network(id="secret", spec=NetworkSpec(name="secret", driver_configuration=driver)))
    lab.settle()


def test_a_swarm_without_encrypted_networks_has_no_keys(lab: Lab) -> None:
    lab.put(Network(id="app", spec=NetworkSpec(name="app")))
    lab.pass_time(30 * HOURS)
    assert keys(lab) == []


def test_every_twelve_hours_there_is_another_key_and_the_last_three_are_kept(lab: Lab) -> None:
    encrypted(lab)
    first = keys(lab)
    assert [key.number for key in first] == [1, 2]
    assert len({key.secret for key in first}) == 2
    assert all(len(key.secret) == 32 for key in first)
    lab.pass_time(11.9 * HOURS)
    assert keys(lab) == first
    lab.pass_time(0.2 * HOURS)
    assert [key.number for key in keys(lab)] == [1, 2, 3]
    assert keys(lab)[:2] == first
    lab.pass_time(12 * HOURS)
    assert [key.number for key in keys(lab)] == [2, 3, 4]


def test_a_new_leader_rotates_in_time(lab: Lab) -> None:
    encrypted(lab)
    lab.pass_time(8 * HOURS)
    lab.elect()
    lab.pass_time(3.9 * HOURS)
    assert len(keys(lab)) == 2
    lab.pass_time(0.2 * HOURS)
    assert len(keys(lab)) == 3


def test_only_nodes_on_encrypted_networks_hear_the_keys_and_of_every_new_one(lab: Lab) -> None:
    lab.node("n1", status=NodeStatus(state="ready", addr="192.0.2.1"))
    lab.node("n2", status=NodeStatus(state="ready", addr="192.0.2.2"))
    encrypted(lab)
    tables = NetworkTables(lab.store.view)
    told = {name: NodeAssignments(name, tables) for name in ("n1", "n2")}
    for assignments in told.values():
        path = assignments.complete(lab.store.view).data_path
        assert path is not None
        assert path.keys == []
    seen = len(lab.events)
    lab.service("web", 1, networks=[NetworkAttachmentConfig(target="secret")])
    lab.settle()
    (task,) = lab.tasks()
    tables.apply(lab.store.view, lab.events[seen:])
    message = told[task.node_id].update(lab.store.view, lab.events[seen:])
    assert message is not None
    assert message.data_path is not None
    assert message.data_path.keys == keys(lab)
    seen = len(lab.events)
    lab.pass_time(12.1 * HOURS)
    message = told[task.node_id].update(lab.store.view, lab.events[seen:])
    assert message is not None
    assert message.data_path is not None
    assert [key.number for key in message.data_path.keys] == [1, 2, 3]
    other = told["n1" if task.node_id == "n2" else "n2"].update(lab.store.view, lab.events[seen:])
    assert other is None or other.data_path is None
