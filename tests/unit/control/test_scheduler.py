from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from enxame.model.cluster import NANOSECONDS, Driver
from enxame.model.container import Mount, VolumeDriver, VolumeOptions
from enxame.model.node import NodeStatus
from enxame.model.service import (
    DiscreteGenericResource,
    EndpointSpec,
    GenericResource,
    NamedGenericResource,
    Placement,
    PlacementPreference,
    Platform,
    PortConfig,
    Reservation,
    ResourceRequirements,
    Service,
    SpreadOver,
)
from enxame.model.task import TaskState
from tests.unit.control.lab import Lab, policy


def reserve(cpus: int, generic: list[GenericResource] | None = None) -> ResourceRequirements:
    return ResourceRequirements(reservations=Reservation(nano_cpus=cpus * NANOSECONDS, generic_resources=generic or []))


def spread(*labels: str) -> Placement:
    return Placement(preferences=[PlacementPreference(spread=SpreadOver(spread_descriptor=label)) for label in labels])


def where(lab: Lab, service: Service) -> Counter[str]:
    return Counter(task.node_id for task in lab.tasks(service) if task.node_id)


def why(lab: Lab, service: Service) -> str:
    errors = {task.status.err for task in lab.tasks(service) if task.status.state is TaskState.PENDING}
    assert len(errors) == 1
    return errors.pop()


def test_tasks_are_spread_evenly_over_nodes(lab: Lab) -> None:
    for name in ("n1", "n2", "n3"):
        lab.node(name)
    assert sorted(where(lab, lab.service("web", 8)).values()) == [2, 3, 3]


def test_fewest_of_the_service_comes_before_fewest_in_all(lab: Lab) -> None:
    lab.node("n1")
    lab.service("other", 5)
    web = lab.service("web", 1)
    lab.node("n2")
    lab.settle()
    assert where(lab, lab.service("third", 1)) == {"n2": 1}
    lab.scale(web, 2)
    assert where(lab, web) == {"n1": 1, "n2": 1}


def test_without_nodes_there_is_nothing_to_explain(lab: Lab) -> None:
    web = lab.service("web", 1)
    assert why(lab, web) == "no suitable node"
    lab.node("n1")
    lab.settle()
    assert where(lab, web) == {"n1": 1}


HOST_PORT = {"endpoint_spec": EndpointSpec(ports=[PortConfig(target_port=80, published_port=80, publish_mode="host")])}


@pytest.mark.parametrize(
    ("template", "spec", "reason"),
    [
        ({"resources": reserve(9)}, None, "insufficient resources on {}"),
        (
            {"placement": Placement(constraints=["node.role==manager"])},
            None,
            "scheduling constraints not satisfied on {}",
        ),
        ({"placement": Placement(platforms=[Platform(architecture="arm64")])}, None, "unsupported platform on {}"),
        ({"log_driver": Driver(name="splunk")}, None, ""),
    ],
)
@pytest.mark.parametrize(("nodes", "text"), [(1, "1 node"), (2, "2 nodes")])
def test_the_reason_is_told_in_swarms_words(
    lab: Lab, template: dict[str, Any], spec: dict[str, Any] | None, reason: str, nodes: int, text: str
) -> None:
    for index in range(nodes):
        lab.node(f"n{index}")
    web = lab.service("web", 1, spec=spec, **template)
    if not reason:
        assert len(where(lab, web)) == 1, "nodes that report no log drivers are not refused"
    else:
        assert why(lab, web) == f"no suitable node ({reason.format(text)})"


def test_missing_plugins_are_told(lab: Lab) -> None:
    lab.node("n1")
    mount = Mount(
        type="volume", source="v", target="/v", volume_options=VolumeOptions(driver_config=VolumeDriver(name="nfs"))
    )
    web = lab.service("web", 1)
    container = lab.get(web).spec.task_template.container_spec
    assert container is not None
    lab.update(web, container_spec=replace(container, mounts=[mount]))
    assert lab.tasks(web)[-1].status.err == "no suitable node (missing plugin on 1 node)"


def test_host_ports_and_replicas_per_node_are_limits(lab: Lab) -> None:
    for name in ("n1", "n2"):
        lab.node(name)
    web = lab.service("web", 3, spec=HOST_PORT)
    assert where(lab, web) == {"n1": 1, "n2": 1}
    assert why(lab, web) == "no suitable node (host-mode port already in use on 2 nodes)"
    few = lab.service("few", 3, placement=Placement(max_replicas=1))
    assert where(lab, few) == {"n1": 1, "n2": 1}
    assert why(lab, few) == "no suitable node (max replicas per node limit exceed)"


def test_reasons_are_counted_by_node_the_most_frequent_first(lab: Lab) -> None:
    lab.node("n1")
    lab.node("n2")
    third = lab.node("n3")
    lab.change(third, spec=replace(third.spec, availability="drain"))
    web = lab.service("web", 1, resources=reserve(9))
    assert why(lab, web) == "no suitable node (insufficient resources on 2 nodes; 1 node not available for new tasks)"
    lab.change(lab.node("n4"), status=NodeStatus(state="down"))
    lab.settle()
    one = lab.service("one", 1, placement=Placement(constraints=["node.hostname==n9"]))
    assert (
        why(lab, one)
        == "no suitable node (scheduling constraints not satisfied on 2 nodes; 2 nodes not available for new tasks)"
    )


def test_ties_name_the_particular_reason_first(lab: Lab) -> None:
    lab.node("n1")
    second = lab.node("n2")
    lab.change(second, spec=replace(second.spec, availability="pause"))
    web = lab.service("web", 1, placement=Placement(constraints=["node.hostname==n9"]))
    assert (
        why(lab, web)
        == "no suitable node (scheduling constraints not satisfied on 1 node; 1 node not available for new tasks)"
    )


def test_what_waits_is_placed_when_something_ends(lab: Lab) -> None:
    lab.node("n1", cpus=2)
    web = lab.service("web", 3, resources=reserve(1))
    assert sum(where(lab, web).values()) == 2
    lab.play()
    lab.scale(web, 2)
    lab.play()
    two = lab.service("two", 1, resources=reserve(1))
    assert why(lab, two) == "no suitable node (insufficient resources on 1 node)"
    lab.scale(web, 1)
    lab.play()
    assert where(lab, two) == {"n1": 1}


def test_spread_preferences_make_branches_even(lab: Lab) -> None:
    for name, zone in (("n1", "a"), ("n2", "a"), ("n3", "a"), ("n4", "b")):
        lab.node(name, labels={"zone": zone})
    counts = where(lab, lab.service("web", 6, placement=spread("node.labels.zone")))
    assert counts["n4"] == 3
    assert sorted(counts[name] for name in ("n1", "n2", "n3")) == [1, 1, 1]


def test_a_full_branch_leaves_its_share_to_the_others(lab: Lab) -> None:
    lab.node("n1", labels={"zone": "a"}, cpus=1)
    lab.node("n2", labels={"zone": "b"}, cpus=8)
    web = lab.service("web", 6, placement=spread("node.labels.zone"), resources=reserve(1))
    assert where(lab, web) == {"n1": 1, "n2": 5}


def test_spread_goes_level_by_level(lab: Lab) -> None:
    for name, zone, rack in (("n1", "a", "1"), ("n2", "a", "2"), ("n3", "b", "1"), ("n4", "b", "1")):
        lab.node(name, labels={"zone": zone, "rack": rack})
    counts = where(lab, lab.service("web", 8, placement=spread("node.labels.zone", "node.labels.rack")))
    assert counts == {"n1": 2, "n2": 2, "n3": 2, "n4": 2}


def test_a_node_where_a_spec_keeps_failing_comes_last(lab: Lab) -> None:
    lab.node("n1")
    web = lab.service("web", 1, restart_policy=policy(delay=0))
    for _ in range(5):
        lab.settle()
        lab.report(lab.wanted(web)[-1], TaskState.FAILED)
    lab.node("n2")
    lab.settle()
    lab.scale(web, 4)
    fresh = [task for task in lab.tasks(web) if not task.status.state.is_terminal]
    assert Counter(task.node_id for task in fresh)["n2"] == 4
    lab.pass_time(301)
    lab.scale(web, 6)
    assert where(lab, web)["n1"] == 6, "forgiven after five minutes"


def test_generic_resources_are_claimed_and_given_back(lab: Lab) -> None:
    gpus = [GenericResource(named_resource_spec=NamedGenericResource(kind="GPU", value=f"u{i}")) for i in range(2)]
    ssd = GenericResource(discrete_resource_spec=DiscreteGenericResource(kind="SSD", value=3))
    node = lab.node("n1")
    description = replace(
        node.description, resources=replace(node.description.resources, generic_resources=[*gpus, ssd])
    )
    lab.change(node, description=description)
    lab.settle()

    def want(kind: str, amount: int) -> list[GenericResource]:
        return [GenericResource(discrete_resource_spec=DiscreteGenericResource(kind=kind, value=amount))]

    web = lab.service("web", 3, resources=reserve(0, want("GPU", 1)))
    claimed = [
        resource.named_resource_spec.value
        for task in lab.tasks(web)
        for resource in task.assigned_generic_resources
        if resource.named_resource_spec is not None
    ]
    assert sorted(claimed) == ["u0", "u1"]
    assert why(lab, web) == "no suitable node (insufficient resources on 1 node)"
    disks = lab.service("disks", 2, resources=reserve(0, want("SSD", 2)))
    assert sum(where(lab, disks).values()) == 1
    lab.play()
    lab.scale(web, 1)
    lab.play()
    assert len(lab.wanted(web)) == 1
    assert lab.wanted(web)[0].status.state is TaskState.RUNNING


def test_a_drained_or_paused_node_gets_no_new_tasks(lab: Lab) -> None:
    for availability in ("drain", "pause"):
        node = lab.node(availability)
        lab.change(node, spec=replace(node.spec, availability=availability))
    web = lab.service("web", 1)
    assert why(lab, web) == "no suitable node (2 nodes not available for new tasks)"


@settings(max_examples=60, deadline=None)
@given(
    nodes=st.lists(st.integers(0, 6), min_size=1, max_size=6),
    services=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), min_size=1, max_size=5),
)
def test_no_node_is_ever_overcommitted_and_no_room_is_left_unused(
    nodes: list[int], services: list[tuple[int, int]]
) -> None:
    lab = Lab()
    for index, cpus in enumerate(nodes):
        lab.node(f"n{index}", cpus=cpus)
    for index, (replicas, cpus) in enumerate(services):
        lab.service(f"s{index}", replicas, resources=reserve(cpus))
    lab.settle()
    used: Counter[str] = Counter()
    waiting: list[int] = []
    for task in lab.tasks():
        reserved = task.spec.resources.reservations.nano_cpus if task.spec.resources else 0  # type: ignore[union-attr]
        if task.node_id:
            used[task.node_id] += reserved
        else:
            waiting.append(reserved)
    for index, cpus in enumerate(nodes):
        free = cpus * NANOSECONDS - used[f"n{index}"]
        assert free >= 0
        assert all(reserved > free for reserved in waiting)
