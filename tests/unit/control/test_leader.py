from __future__ import annotations

from msgspec.structs import replace

from enxame.model.cluster import NANOSECONDS
from enxame.model.service import (
    EndpointSpec,
    GlobalJob,
    GlobalService,
    PortConfig,
    ReplicatedJob,
    ReplicatedService,
    Service,
    ServiceInternal,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from enxame.model.task import TaskState
from tests.unit.control.lab import Lab


def test_a_new_services_tasks_are_assigned_in_one_step(lab: Lab) -> None:
    for name in ("n1", "n2", "n3"):
        lab.node(name)
    web = lab.service("web", 3, spec={"endpoint_spec": EndpointSpec(ports=[PortConfig(target_port=80)])})
    tasks = lab.tasks(web)
    assert [task.slot for task in tasks] == [1, 2, 3]
    assert sorted(task.node_id for task in tasks) == ["n1", "n2", "n3"]
    for task in tasks:
        assert task.status.state is TaskState.ASSIGNED
        assert task.desired_state is TaskState.RUNNING
        assert task.internal is not None
        assert task.internal.service_name == "web"
        assert task.internal.ports == lab.get(web).endpoint.ports
        assert [attachment.network.id for attachment in task.networks_attachments] == ["ingress"]


def test_a_steps_own_events_change_nothing(lab: Lab) -> None:
    lab.node("n1")
    lab.service("web", 3)
    assert not lab.step()
    assert not lab.step()


def test_events_that_come_twice_or_late_do_no_harm(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 2)
    lab.step()
    lab.report(lab.tasks(web)[0], TaskState.FAILED)
    events = lab.store.take_events()
    lab.store.update(lambda tx: lab.leader.step(tx, [*events, *events], lab.clock.now()))
    assert len(lab.tasks(web)) == 3
    lab.store.update(lambda tx: lab.leader.step(tx, events, lab.clock.now()))
    assert len(lab.tasks(web)) == 3


def test_removing_a_service_stops_and_then_forgets_its_tasks(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 2)
    lab.play()
    lab.delete(lab.get(web))
    lab.settle()
    assert {task.desired_state for task in lab.tasks(web)} == {TaskState.REMOVE}
    lab.play()
    assert lab.tasks(web) == []


def test_a_new_leader_heals_what_changed_while_nobody_led(lab: Lab) -> None:
    lab.node("n1")
    node = lab.node("n2")
    web = lab.service("web", 2)
    old = lab.service("old", 1)
    lab.play()
    lab.delete(lab.get(old))
    lab.delete(node)
    lab.elect()
    lab.play()
    assert lab.tasks(old) == []
    assert {task.node_id for task in lab.wanted(web)} == {"n1"}
    assert {task.status.state for task in lab.wanted(web)} == {TaskState.RUNNING}


def test_a_new_leader_finds_nothing_to_do_in_a_swarm_at_rest(lab: Lab) -> None:
    lab.node("n1")
    lab.service("web", 3, spec={"endpoint_spec": EndpointSpec(ports=[PortConfig(target_port=80)])})
    lab.play()
    before = lab.store.revision
    ledger = lab.leader.ledger()
    lab.elect()
    assert lab.store.revision == before
    assert lab.leader.ledger() == ledger


def test_what_others_commit_meanwhile_is_kept(lab: Lab) -> None:
    """The leader decides on a task whose newest status it has not seen yet."""
    lab.node("n1")
    web = lab.service("web", 1)
    lab.step()
    task = lab.tasks(web)[0]
    lab.report(task, TaskState.RUNNING)
    lab.store.take_events()  # not delivered yet
    current = lab.store.view.get(Service, web.id)
    assert current is not None
    lab.change(current, spec=replace(current.spec, mode=replace(current.spec.mode, replicated=None)))
    lab.delete(lab.get(web))
    lab.step()
    assert lab.task(task).status.state is TaskState.RUNNING
    assert lab.task(task).desired_state is TaskState.REMOVE


def _service(name: str, mode: ServiceMode, *ports: PortConfig) -> Service:
    spec = ServiceSpec(
        name=name,
        mode=mode,
        task_template=TaskSpec(),
        endpoint_spec=EndpointSpec(ports=list(ports)),
        update_config=UpdateConfig(parallelism=10, monitor=NANOSECONDS),
    )
    return Service(id=name, spec=spec, internal=ServiceInternal(spec_version=1))


def _replicas(number: int) -> ServiceMode:
    return ServiceMode(replicated=ReplicatedService(replicas=number))


def _passes(lab: Lab) -> list[int]:
    """Step as often as the leader wants to go on at once; how many tasks were wanted after each pass."""
    counts = []
    while lab.wake is not None and lab.wake <= lab.clock.mono:
        lab.step()
        counts.append(sum(task.desired_state is TaskState.RUNNING for task in lab.tasks()))
    return counts


def test_many_services_at_once_are_made_and_removed_in_passes_of_some_hundred_tasks(lab: Lab) -> None:
    lab.node("n1")
    services = [_service(f"s{number:02d}", _replicas(30)) for number in range(20)]
    lab.put(*services)
    lab.step()
    assert len(lab.tasks()) == 200
    assert _passes(lab) == [400, 600]
    assert {service.id: len(lab.wanted(service)) for service in services} == dict.fromkeys(
        (f"s{number:02d}" for number in range(20)), 30
    )
    assert not lab.step()
    for service in services:
        lab.delete(service)
    lab.step()
    assert _passes(lab) == [200, 0]
    lab.play()
    assert lab.tasks() == []
    ledger = lab.leader.ledger()
    lab.elect()
    assert lab.leader.ledger() == ledger


def test_a_service_that_waits_for_its_turn_has_its_ports_and_may_change_meanwhile(lab: Lab) -> None:
    lab.node("n1")
    port = PortConfig(target_port=80, published_port=8080)
    first, web, gone = _service("a", _replicas(300)), _service("web", _replicas(5), port), _service("x", _replicas(5))
    lab.put(first, web, gone)
    lab.step()
    assert len(lab.tasks(first)) == 200
    assert lab.tasks(web) == []
    assert [taken.published_port for taken in lab.get(web).endpoint.ports] == [8080]
    lab.delete(gone)
    lab.scale(web, 3)
    assert len(lab.tasks(web)) == 3
    assert all(task.internal is not None and task.internal.ports for task in lab.tasks(web))
    lab.play()
    assert len(lab.wanted(first)) == 300
    assert len(lab.wanted(web)) == 3
    assert lab.tasks(gone) == []


def test_a_large_service_lets_others_go_first(lab: Lab) -> None:
    lab.node("n1")
    large, small = _service("large", _replicas(1000)), _service("small", _replicas(2))
    lab.put(large, small)
    lab.step()
    lab.step()
    assert len(lab.tasks(small)) == 2
    assert len(lab.tasks(large)) < 600
    lab.play()
    assert len(lab.wanted(large)) == 1000


def test_jobs_and_global_services_are_made_in_such_passes_too(lab: Lab) -> None:
    for number in range(250):
        lab.node(f"n{number:03d}")
    lab.settle()
    everywhere = _service("everywhere", ServiceMode(global_=GlobalService()))
    job = _service("job", ServiceMode(replicated_job=ReplicatedJob(max_concurrent=300, total_completions=300)))
    once = _service("once", ServiceMode(global_job=GlobalJob()))
    for service, number in ((everywhere, 250), (job, 300), (once, 250)):
        lab.put(service)
        lab.step()
        assert len(lab.tasks(service)) == 200
        _passes(lab)
        assert len(lab.tasks(service)) == number


def test_many_services_that_are_scaled_and_updated_at_once_end_as_they_are_to_be(lab: Lab) -> None:
    lab.node("n1")
    services = [_service(f"s{number:02d}", _replicas(30)) for number in range(20)]
    lab.put(*services)
    lab.play()
    for service in services:
        current = lab.get(service)
        mode = _replicas(60)
        spec = replace(current.spec, mode=mode, task_template=replace(current.spec.task_template, force_update=1))
        lab.change(current, spec=spec, previous_spec=current.spec, internal=ServiceInternal(2, 1))
    lab.play()
    lab.pass_time(10)
    for service in services:
        status = lab.get(service).update_status
        assert status is not None
        assert status.state == "completed"
        assert [task.spec.force_update for task in lab.wanted(service)] == [1] * 60
