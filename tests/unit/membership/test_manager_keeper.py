"""The leader's care for the other managers, with members that only say what they are told."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from enxame.manager.failure_detector import LEFT
from enxame.membership import manager_keeper
from enxame.membership.manager_keeper import ManagerKeeper
from enxame.model.node import ManagerStatus, Node, NodeSpec, NodeStatus
from enxame.store.etcd_messages import Member
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DEADLINE = 5.0


class Cluster:
    """The etcd cluster, as far as a keeper sees it."""

    def __init__(self, *names):
        self.all = [Member(index, name, (f"https://{name}",), learner=False) for index, name in enumerate(names, 1)]
        self.client = self.members = self
        self.asked = []

    async def __call__(self, *, timeout):
        return list(self.all)

    async def remove(self, name, *, reachable):
        self.asked.append((name, frozenset(reachable)))
        self.all = [member for member in self.all if member.name != name]

    async def remove_id(self, number):
        self.all = [member for member in self.all if member.id != number]

    @property
    def names(self):
        return [member.name for member in self.all]


class Client:
    def __init__(self, cluster):
        self.members = cluster


class Etcd:
    """An etcd node: a client whose ``members`` is a call, and the changes of membership."""

    def __init__(self, cluster):
        self.client = Client(cluster)
        self.members = cluster


class State:
    """A manager's state that leads."""

    def __init__(self, cluster):
        self.store = Store(MemoryBackend(), wall=lambda: NOW)
        self.cluster = cluster
        self.etcd = Etcd(cluster)
        self.resigned = 0

    async def resign(self):
        self.resigned += 1
        return True

    async def to_sqlite(self):
        self.etcd = None

    def status(self, node_id):
        return self.store.view.get(Node, node_id).manager_status


def manager(node_id, **fields):
    status = ManagerStatus(reachability="reachable", addr=f"{node_id}:2377")
    node = Node(id=node_id, spec=NodeSpec(role="manager", availability="active"), manager_status=status)
    return replace(replace(node, status=NodeStatus(state="ready", addr=node_id)), **fields)


@asynccontextmanager
async def kept(*nodes, members=None, troubles=None):
    """A state whose managers are looked after by m1, the leader."""
    state = State(Cluster(*(members or [node.id for node in nodes])))
    await state.store.start()
    await state.store.update(lambda tx: [tx.create(node) for node in nodes])
    keeper = ManagerKeeper(
        state,
        "m1",
        addr="m1:2377",
        trouble=lambda node_id: (troubles or {}).get(node_id, ""),
        changing=asyncio.Lock(),
    )
    running = asyncio.create_task(keeper.run())
    yield state
    running.cancel()
    await asyncio.wait({running})
    await state.store.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, seconds in {"LOOK": 0.01, "GRACE": 0.2, "HOLD": 0.1, "ALONE": 0.2}.items():
        monkeypatch.setattr(manager_keeper, name, seconds)


async def until(condition):
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


async def change(state, node_id, **fields):
    await state.store.update(lambda tx: tx.update(replace(tx.get(Node, node_id), **fields)))


async def test_the_leader_is_shown_and_nobody_else_as_one():
    former = manager("m2", manager_status=ManagerStatus(leader=True, reachability="reachable", addr="m2:2377"))
    async with kept(manager("m1"), former) as state:
        await until(lambda: state.status("m1").leader and not state.status("m2").leader)
        assert state.status("m2") == ManagerStatus(reachability="reachable", addr="m2:2377")


async def test_a_manager_in_trouble_is_unreachable_after_its_grace_and_reachable_again_at_once():
    troubles = {"m2": "it was not heard of"}
    async with kept(manager("m1"), manager("m2"), troubles=troubles) as state:
        await asyncio.sleep(0.05)
        assert state.status("m2").reachability == "reachable", "a new leader waits for it"
        await until(lambda: state.status("m2").reachability == "unreachable")
        troubles.clear()
        await until(lambda: state.status("m2").reachability == "reachable")
        troubles["m2"] = "its link is made anew"
        await asyncio.sleep(0.03)
        assert state.status("m2").reachability == "reachable", "a short lapse is none"


async def test_a_demoted_manager_is_taken_out_and_is_none_any_more():
    async with kept(manager("m1"), manager("m2"), manager("m3")) as state:
        await change(state, "m2", spec=NodeSpec(role="worker", availability="active"))
        await until(lambda: state.status("m2") is None)
        assert state.cluster.names == ["m1", "m3"]
        assert state.cluster.asked == [("m2", frozenset({"m1", "m2", "m3"}))]
        assert state.status("m3") is not None


async def test_a_demoted_leader_hands_over_and_stays_a_member_for_its_successor():
    async with kept(manager("m1"), manager("m2")) as state:
        await change(state, "m1", spec=NodeSpec(role="worker", availability="active"))
        await until(lambda: state.resigned)
        assert state.cluster.names == ["m1", "m2"]


async def test_a_manager_that_left_is_taken_out_and_stays_in_the_list():
    async with kept(manager("m1"), manager("m2"), manager("m3"), troubles={"m2": "it says nothing"}) as state:
        await change(state, "m2", status=NodeStatus(state="down", message=LEFT))
        await until(lambda: state.cluster.names == ["m1", "m3"])
        await until(lambda: state.status("m2").reachability == "unreachable")


async def test_members_of_removed_nodes_and_learners_nobody_waits_for_go():
    async with kept(manager("m1"), manager("m2"), members=["m1", "m2", "gone"]) as state:
        state.cluster.all.append(Member(9, "", ("https://never-started",), learner=True))
        await until(lambda: state.cluster.names == ["m1", "m2"])


async def test_a_voter_that_was_let_in_by_a_leader_that_died_is_a_manager():
    async with kept(manager("m1"), manager("m2", manager_status=None)) as state:
        await until(lambda: state.status("m2") is not None)
        assert state.status("m2") == ManagerStatus(reachability="reachable", addr="m2:2377")


async def test_the_last_manager_goes_back_to_one_file_unless_another_is_about_to_join():
    joining = manager("m2", manager_status=None)
    async with kept(manager("m1"), joining, members=["m1"]) as state:
        await asyncio.sleep(0.4)
        assert state.etcd is not None, "m2 may come at any moment"
        await change(state, "m2", status=NodeStatus(state="down"))
        await until(lambda: state.etcd is None)
