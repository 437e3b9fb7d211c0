import pytest
from msgspec.structs import replace

from enxame.errors import InvalidArgument, NotFound
from enxame.model.filters import Filters
from enxame.model.service import (
    ContainerSpec,
    Endpoint,
    Placement,
    PortConfig,
    Service,
    ServiceInternal,
    ServiceSpec,
    TaskSpec,
)
from enxame.model.task import Task, TaskInternal, TaskState, TaskStatus
from tests.unit.manager.conftest import worker_node

RUNNING = TaskStatus(state=TaskState.RUNNING)


def task_spec(image="nginx", constraints=()):
    return TaskSpec(container_spec=ContainerSpec(image=image), placement=Placement(constraints=list(constraints)))


def service(service_id, name, version=0, template=None, **fields):
    return Service(
        id=service_id,
        spec=ServiceSpec(name=name, task_template=template or task_spec()),
        internal=ServiceInternal(spec_version=version),
        **fields,
    )


def task(task_id, service_id="s1", name="web", slot=1, node_id="node1", desired=TaskState.RUNNING, version=0, **fields):
    internal = TaskInternal(service_name=name, service_labels={"tier": name}, spec_version=version)
    return Task(
        id=task_id,
        service_id=service_id,
        slot=slot,
        node_id=node_id,
        desired_state=desired,
        status=RUNNING,
        spec=fields.pop("spec", task_spec()),
        internal=replace(internal, **fields),
    )


@pytest.fixture
async def tasks(manager, put):
    await put(
        worker_node("node2", "lab2"),
        service("s1", "web"),
        service("s2", "db"),
        task("t1"),
        task("t2", slot=2, desired=TaskState.SHUTDOWN),
        task("t3", "s2", "db", node_id="node2"),
        task("u4", "s2", "db", slot=0, node_id="node2"),
    )
    return manager.tasks


def ids(found):
    return {task.id for task in found}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, {"t1", "t2", "t3", "u4"}),
        ({"service": {"web"}}, {"t1", "t2"}),
        ({"service": {"s1", "db"}}, {"t1", "t2", "t3", "u4"}),
        ({"node": {"lab2"}}, {"t3", "u4"}),
        ({"node": {"self"}}, {"t1", "t2"}),
        ({"node": {"node1"}, "service": {"db"}}, set()),
        ({"desired-state": {"shutdown"}}, {"t2"}),
        ({"desired-state": {"Running"}, "service": {"web"}}, {"t1"}),
        ({"id": {"t"}}, {"t1", "t2", "t3"}),
        ({"name": {"web.1"}}, {"t1"}),
        ({"name": {"db.node2"}}, {"u4"}),
        ({"label": {"tier=db"}}, {"t3", "u4"}),
        ({"runtime": {"container"}}, {"t1", "t2", "t3", "u4"}),
        ({"runtime": {"plugin"}}, set()),
        ({"_up-to-date": {"true"}}, {"t1", "t2", "t3", "u4"}),
    ],
)
async def test_lists_are_filtered(tasks, wanted, found):
    assert ids(tasks.list(Filters({name: frozenset(v) for name, v in wanted.items()}))) == found


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("service", NotFound, "service nosuch not found"),
        ("node", NotFound, "node nosuch not found"),
        ("desired-state", InvalidArgument, "invalid filter 'desired-state=[nosuch]'"),
    ],
)
async def test_filters_that_name_nothing_are_refused(tasks, name, error, message):
    with pytest.raises(error) as caught:
        tasks.list(Filters({name: frozenset({"nosuch"})}))
    assert caught.value.message == message


async def test_tasks_are_found_by_id_name_and_beginning_of_an_id(tasks):
    assert tasks.get("t1").id == "t1"
    assert tasks.get("web.2.t2").id == "t2"
    assert tasks.get("u").id == "u4"
    with pytest.raises(InvalidArgument, match=r"^task t is ambiguous \(3 matches found\)$"):
        tasks.get("t")
    with pytest.raises(NotFound, match=r"^task x not found$"):
        tasks.get("x")


PORT = PortConfig(target_port=80, published_port=80)


@pytest.mark.parametrize(
    ("new_service", "old_task", "fresh"),
    [
        (service("s", "x", 1), task("t", "s", version=1, spec=task_spec("anything")), True),
        (service("s", "x", 2), task("t", "s", version=1), True),
        (service("s", "x", 2, task_spec("new")), task("t", "s", version=1), False),
        (service("s", "x", 2, task_spec(constraints=["node.role==manager"])), task("t", "s", version=1), True),
        (service("s", "x", 2, task_spec(constraints=["node.role==worker"])), task("t", "s", version=1), False),
        (service("s", "x", 2, endpoint=Endpoint(ports=[PORT])), task("t", "s", version=1), False),
        (service("s", "x", 2, endpoint=Endpoint(ports=[PORT])), task("t", "s", version=1, ports=[PORT]), True),
        (service("other", "x", 2), task("t", "s", version=2), False),
    ],
)
async def test_up_to_date_is_what_the_service_asks_for_now(manager, put, new_service, old_task, fresh):
    await put(new_service, old_task)
    found = manager.tasks.list(Filters({"_up-to-date": frozenset({"true"})}))
    assert ids(found) == ({"t"} if fresh else set())
