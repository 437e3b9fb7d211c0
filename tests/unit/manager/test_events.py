import pytest
from msgspec.structs import replace

from enxame.manager.events import event_messages
from enxame.model.cluster import Cluster
from enxame.model.network import Network, NetworkSpec
from enxame.model.secret import Config, ConfigSpec, Secret, SecretSpec
from enxame.model.service import (
    ContainerSpec,
    GlobalService,
    ReplicatedService,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateStatus,
)
from enxame.model.task import Task
from enxame.store.interface import Action, Event
from tests.unit.manager.conftest import manager_node


def service(image="nginx:1", replicas=1, state=None):
    mode = (
        ServiceMode(replicated=ReplicatedService(replicas=replicas))
        if replicas
        else ServiceMode(global_=GlobalService())
    )
    return Service(
        id="s",
        spec=ServiceSpec(name="web", mode=mode, task_template=TaskSpec(container_spec=ContainerSpec(image=image))),
        update_status=UpdateStatus(state=state) if state else None,
    )


NODE = manager_node()


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (Event(Action.CREATE, service(), None, 1), ("service", "create", "s", {"name": "web"})),
        (Event(Action.DELETE, service("x"), service("x"), 1), ("service", "remove", "s", {"name": "web"})),
        (Event(Action.UPDATE, service(), service(), 1), ("service", "update", "s", {"name": "web"})),
        (
            Event(Action.UPDATE, service("nginx:2", 3), service(), 1),
            (
                "service",
                "update",
                "s",
                {
                    "name": "web",
                    "image.old": "nginx:1",
                    "image.new": "nginx:2",
                    "replicas.old": "1",
                    "replicas.new": "3",
                },
            ),
        ),
        (
            Event(Action.UPDATE, service(state="updating"), service(), 1),
            ("service", "update", "s", {"name": "web", "updatestate.new": "updating"}),
        ),
        (
            Event(Action.UPDATE, service(state="completed"), service(state="updating"), 1),
            (
                "service",
                "update",
                "s",
                {"name": "web", "updatestate.old": "updating", "updatestate.new": "completed"},
            ),
        ),
        (
            Event(Action.UPDATE, replace(NODE, spec=replace(NODE.spec, availability="drain")), NODE, 1),
            (
                "node",
                "update",
                "node1",
                {"name": "host1", "availability.old": "active", "availability.new": "drain"},
            ),
        ),
        (
            Event(
                Action.UPDATE,
                replace(
                    NODE,
                    spec=replace(NODE.spec, role="worker"),
                    status=replace(NODE.status, state="down"),
                    manager_status=replace(NODE.manager_status, leader=False, reachability="unreachable"),
                ),
                NODE,
                1,
            ),
            (
                "node",
                "update",
                "node1",
                {
                    "name": "host1",
                    "role.old": "manager",
                    "role.new": "worker",
                    "state.old": "ready",
                    "state.new": "down",
                    "leader.old": "true",
                    "leader.new": "false",
                    "reachability.old": "reachable",
                    "reachability.new": "unreachable",
                },
            ),
        ),
        (
            Event(Action.CREATE, Network(id="n", spec=NetworkSpec(name="ov")), None, 1),
            ("network", "create", "n", {"name": "ov"}),
        ),
        (
            Event(Action.DELETE, Secret(id="x", spec=SecretSpec(name="sec")), None, 1),
            ("secret", "remove", "x", {"name": "sec"}),
        ),
        (
            Event(Action.UPDATE, Config(id="c", spec=ConfigSpec(name="cfg")), None, 1),
            ("config", "update", "c", {"name": "cfg"}),
        ),
    ],
)
def test_changes_are_told_with_swarms_attributes(event, message):
    assert [tuple(given) for given in event_messages(event)] == [message]


@pytest.mark.parametrize("obj", [Task(id="t"), Cluster(id="c")])
def test_tasks_and_the_cluster_are_not_told(obj):
    assert not event_messages(Event(Action.CREATE, obj, None, 1))
