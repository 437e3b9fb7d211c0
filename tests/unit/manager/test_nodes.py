import pytest
from msgspec.structs import replace

from enxame.errors import EnxameError, InvalidArgument, NotFound
from enxame.manager.nodes import NodeControl
from enxame.model.filters import Filters
from enxame.model.node import Node, NodeSpec
from tests.unit.manager.conftest import manager_node, worker_node

PRECONDITION = "rpc error: code = FailedPrecondition desc = "


def filters(values):
    return Filters({name: frozenset(given) for name, given in values.items()})


@pytest.fixture
async def nodes(manager, put):
    await put(
        worker_node("worker1", "lab2", labels={"zone": "a"}),
        worker_node("worker2", "lab2", state="down"),
    )
    return manager.nodes


async def test_nodes_are_found_by_id_host_name_and_beginning_of_an_id(nodes):
    assert nodes.get("worker1").id == "worker1"
    assert nodes.get("host1").id == "node1"
    assert nodes.get("self").id == "node1"
    assert nodes.get("node").id == "node1"
    with pytest.raises(NotFound, match=r"^node X not found$"):
        nodes.get("X")
    with pytest.raises(InvalidArgument, match=r"^node lab2 is ambiguous \(2 matches found\)$"):
        nodes.get("lab2")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, {"node1", "worker1", "worker2"}),
        ({"name": {"lab"}}, {"worker1", "worker2"}),
        ({"id": {"worker1"}}, {"worker1"}),
        ({"role": {"manager"}}, {"node1"}),
        ({"role": {"WORKER", "manager"}}, {"node1", "worker1", "worker2"}),
        ({"label": {"disk=ssd"}}, {"node1"}),
        ({"node.label": {"zone"}}, {"worker1"}),
        ({"membership": {"accepted"}}, {"node1", "worker1", "worker2"}),
        ({"membership": {"pending"}}, set()),
    ],
)
async def test_lists_are_filtered(nodes, wanted, found):
    assert {node.id for node in nodes.list(filters(wanted))} == found


@pytest.mark.parametrize("name", ["role", "membership"])
async def test_unknown_filter_values_are_refused(nodes, name):
    with pytest.raises(InvalidArgument) as caught:
        nodes.list(filters({name: {"bogus"}}))
    assert caught.value.message == f"invalid filter '{name}=[bogus]'"


async def test_an_update_replaces_the_spec(nodes):
    before = nodes.get("worker1")
    spec = NodeSpec(role="worker", availability="Drain", labels={"a": "b"})
    await nodes.update("worker1", before.version.index, spec)
    after = nodes.get("worker1")
    assert (after.spec.availability, after.spec.labels) == ("drain", {"a": "b"})
    with pytest.raises(EnxameError) as caught:
        await nodes.update("worker1", before.version.index, spec)
    assert caught.value.message == "rpc error: code = Unknown desc = update out of sequence"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (NodeSpec(role="boss", availability="active"), 'invalid Role: "boss"'),
        (NodeSpec(role="", availability="active"), 'invalid Role: ""'),
        (NodeSpec(role="worker", availability="sleepy"), 'invalid Availability: "sleepy"'),
    ],
)
async def test_specs_out_of_rule_are_refused(nodes, spec, message):
    with pytest.raises(InvalidArgument) as caught:
        await nodes.update("worker1", 1, spec)
    assert caught.value.message == message


async def demote(nodes, ref):
    node = nodes.get(ref)
    await nodes.update(ref, node.version.index, replace(node.spec, role="worker"))


async def test_the_last_manager_stays(nodes):
    with pytest.raises(InvalidArgument) as caught:
        await demote(nodes, "node1")
    assert caught.value.message == PRECONDITION + "attempting to demote the last manager of the swarm"


async def test_a_demotion_that_would_lose_the_quorum_is_refused(nodes, put):
    await put(
        manager_node("m2", "lab8", leader=False, reachability="unreachable"),
        manager_node("m3", "lab9", leader=False),
    )
    with pytest.raises(InvalidArgument) as caught:
        await demote(nodes, "m3")
    assert caught.value.message == (
        PRECONDITION + "can't remove member from the raft: this would result in a loss of quorum"
    )
    await demote(nodes, "m2")
    assert nodes.get("m2").spec.role == "worker"


async def test_a_manager_that_is_out_of_reach_may_be_demoted_whoever_else_is(nodes, put):
    await put(
        manager_node("node2", "host2", leader=False, reachability="unreachable"),
        manager_node("node3", "host3", leader=False, reachability="unreachable"),
    )
    for ref in ("node2", "node3"):
        node = nodes.get(ref)
        await nodes.update(ref, node.version.index, replace(node.spec, role="worker"))
        assert nodes.get(ref).spec.role == "worker"


async def test_a_promotion_that_cannot_be_is_refused_before_anything_is_changed(manager, put):
    troubles = {"own": "", "worker1": "there is no etcd"}

    async def own_trouble():
        return troubles["own"]

    nodes = NodeControl(manager.store, "node1", manager_trouble=troubles.__getitem__, own_trouble=own_trouble)
    await put(worker_node("worker1", "lab2"))
    wanted = replace(nodes.get("worker1").spec, role="manager")
    version = nodes.get("worker1").version.index
    with pytest.raises(InvalidArgument) as refused:
        await nodes.update("worker1", version, wanted)
    assert refused.value.message == f"{PRECONDITION}node worker1 cannot become a manager: there is no etcd"
    troubles |= {"own": "etcd is too old", "worker1": ""}
    with pytest.raises(InvalidArgument) as refused:
        await nodes.update("worker1", version, wanted)
    assert refused.value.message == f"{PRECONDITION}the swarm cannot have another manager: etcd is too old"
    assert nodes.get("worker1").version.index == version
    troubles["own"] = ""
    await nodes.update("worker1", version, wanted)
    assert nodes.get("worker1").spec.role == "manager"


@pytest.mark.parametrize(
    ("ref", "force", "message"),
    [
        ("worker1", False, "node worker1 is not down and can't be removed"),
        (
            "node1",
            True,
            (
                "node node1 is a cluster manager and is a member of the raft cluster. "
                "It must be demoted to worker before removal"
            ),
        ),
    ],
)
async def test_nodes_that_may_not_go(nodes, ref, force, message):
    with pytest.raises(InvalidArgument) as caught:
        await nodes.remove(ref, force=force)
    assert caught.value.message == PRECONDITION + message


async def test_nodes_that_may_go(nodes, manager):
    await nodes.remove("worker2")
    await nodes.remove("worker1", force=True)
    assert [node.id for node in manager.store.view.all(Node)] == ["node1"]
