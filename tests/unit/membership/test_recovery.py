from datetime import UTC, datetime, timedelta

import pytest

from enxame.errors import EnxameError, InvalidArgument
from enxame.manager.failure_detector import patience
from enxame.membership.addresses import Interface
from enxame.membership.recovery import go_on_alone, moved_to, place_of
from enxame.membership.state_file import NodeState
from enxame.model.backup import RestoreRequest
from enxame.model.cluster import Cluster, ClusterSecrets
from enxame.model.node import ManagerStatus, Node, NodeSpec, NodeStatus
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store

NOW = datetime(2026, 1, 2, tzinfo=UTC)
STATE = NodeState(
    node_id="n1",
    cluster_id="c",
    listen_addr="0.0.0.0:2377",
    advertise_addr="10.0.0.1:2377",
    interface="eth0",
)
HOME = [Interface("eth0", ("10.0.0.1",)), Interface("eth1", ("192.168.0.1",))]
ELSEWHERE = [Interface("eth0", ("10.0.0.9",))]


def test_a_node_keeps_its_place_where_the_machine_has_the_address():
    assert place_of(STATE, RestoreRequest(), "", HOME) == STATE


def test_on_another_machine_a_node_gets_its_only_address():
    place = place_of(STATE, RestoreRequest(), "", ELSEWHERE)
    assert (place.advertise_addr, place.listen_addr, place.interface) == ("10.0.0.9:2377", "0.0.0.0:2377", "eth0")


def test_the_user_chooses_among_several_addresses():
    several = [Interface("eth0", ("10.0.0.8",)), Interface("eth1", ("10.0.0.9",))]
    with pytest.raises(InvalidArgument, match="could not choose an IP address"):
        place_of(STATE, RestoreRequest(), "", several)
    assert place_of(STATE, RestoreRequest(advertise_addr="eth1:2400"), "", several).advertise_addr == "10.0.0.9:2400"
    assert place_of(STATE, RestoreRequest(), "eth0", several).advertise_addr == "10.0.0.8:2377"


def test_an_address_of_another_machine_that_passes_it_on_is_kept():
    state = NodeState(node_id="n1", listen_addr="0.0.0.0:2377", advertise_addr="203.0.113.5:2377")
    assert place_of(state, RestoreRequest(), "", ELSEWHERE).advertise_addr == "203.0.113.5:2377"
    assert moved_to(state, ELSEWHERE) is None


def test_a_node_that_listened_at_an_address_that_is_gone_listens_at_all():
    state = NodeState(node_id="n1", listen_addr="10.0.0.1:2400", advertise_addr="10.0.0.1:2400", interface="eth0")
    assert place_of(state, RestoreRequest(), "", ELSEWHERE).listen_addr == "0.0.0.0:2400"
    assert place_of(state, RestoreRequest(), "", HOME).listen_addr == "10.0.0.1:2400"


def test_a_machine_whose_interface_has_another_address_has_moved():
    moved = moved_to(STATE, ELSEWHERE)
    assert moved is not None
    assert moved.advertise_addr == "10.0.0.9:2377"


@pytest.mark.parametrize(
    "interfaces",
    [HOME, [], [Interface("eth0", ())], [Interface("eth1", ("10.0.0.9",))], [Interface("eth0", ("fe80::1",))]],
    ids=["there", "no interface", "no address yet", "another interface", "link-local"],
)
def test_a_machine_that_may_only_be_starting_has_not_moved(interfaces):
    assert moved_to(STATE, interfaces) is None


async def recovered(state=STATE, incarnation=0, now=NOW):
    store = Store(MemoryBackend())
    await store.start()

    def fill(tx):
        tx.create(Cluster(id="c", internal=ClusterSecrets(incarnation=incarnation)))
        for name in ("n1", "n2", "n3"):
            tx.create(
                Node(
                    id=name,
                    spec=NodeSpec(role="manager", availability="active"),
                    status=NodeStatus(state="ready", addr=f"10.0.0.{name[1]}"),
                    manager_status=ManagerStatus(leader=name == "n2", reachability="reachable", addr="x"),
                )
            )
        tx.create(Node(id="w", spec=NodeSpec(role="worker"), status=NodeStatus(state="ready")))

    await store.update(fill)
    found = await store.update(lambda tx: go_on_alone(tx, state, now))
    return found, {node.id: node for node in store.view.all(Node)}


async def test_a_survivor_leads_and_the_others_have_no_part_but_stay_in_the_list():
    _, nodes = await recovered()
    assert nodes["n1"].manager_status == ManagerStatus(leader=True, reachability="reachable", addr="10.0.0.1:2377")
    for name in ("n2", "n3"):
        assert nodes[name].manager_status is None
        assert (nodes[name].spec.role, nodes[name].status.state) == ("manager", "down")
    assert nodes["w"].status.state == "ready"


async def test_every_recovery_has_a_higher_incarnation_also_of_the_same_state_and_by_a_clock_set_back():
    first, _ = await recovered()
    later, _ = await recovered(now=datetime(2026, 1, 3, tzinfo=UTC))
    again, _ = await recovered(incarnation=later, now=NOW)
    assert 0 < first < later < again


@pytest.mark.parametrize(
    ("moved", "passed", "left"), [(True, 0, 300.0), (True, 100, 200.0), (True, 301, None), (False, 0, None)]
)
def test_nodes_have_time_to_be_told_of_another_address(moved, passed, left):
    cluster = Cluster(internal=ClusterSecrets(incarnation=int(NOW.timestamp()), moved=moved))
    assert patience(cluster, NOW + timedelta(seconds=passed)) == left


async def test_a_state_without_this_node_is_refused():
    with pytest.raises(EnxameError, match="does not hold a swarm with this manager"):
        await recovered(NodeState(node_id="other"))
