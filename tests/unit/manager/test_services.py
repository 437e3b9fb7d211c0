import pytest
from msgspec.structs import replace

from enxame.errors import Conflict, EnxameError, InvalidArgument, NotFound, Unimplemented
from enxame.model.base import convert
from enxame.model.filters import Filters
from enxame.model.network import Network, NetworkSpec
from enxame.model.secret import Config, ConfigSpec, Secret, SecretSpec
from enxame.model.service import Endpoint, PortConfig, Service, ServiceSpec
from enxame.model.task import Task, TaskState, TaskStatus
from tests.unit.manager.conftest import NOW, worker_node

INVALID = "rpc error: code = InvalidArgument desc = "


def spec(name="web", **fields):
    raw = {"Name": name, "TaskTemplate": {"ContainerSpec": {"Image": "nginx"}}}
    raw["TaskTemplate"].update(fields.pop("TaskTemplate", {}))
    return convert({**raw, **fields}, ServiceSpec)


def published(*ports, name="web"):
    return spec(name, EndpointSpec={"Ports": list(ports)})


def port(number, **fields):
    return {"TargetPort": 80, "PublishedPort": number, **fields}


def filters(**values):
    return Filters(
        {name.replace("_", "-") if name == "desired_state" else name: frozenset(v) for name, v in values.items()}
    )


async def create(manager, given=None, **options):
    return (await manager.services.create(given or spec(), **options)).id


async def test_what_a_spec_leaves_open_is_stored_spelt_out(manager):
    given = spec(
        UpdateConfig={"Parallelism": 2},
        TaskTemplate={"RestartPolicy": {}},
        EndpointSpec={"Ports": [{"TargetPort": 80}]},
    )
    service = manager.services.get(await create(manager, given))
    assert service.spec.mode.replicated.replicas == 1
    assert service.spec.update_config.failure_action == "pause"
    assert service.spec.update_config.order == "stop-first"
    assert service.spec.task_template.restart_policy.condition == "any"
    assert service.spec.task_template.runtime == "container"
    assert service.spec.endpoint_spec.mode == "vip"
    assert (service.spec.endpoint_spec.ports[0].protocol, service.spec.endpoint_spec.ports[0].publish_mode) == (
        "tcp",
        "ingress",
    )
    assert service.spec.rollback_config is None
    assert service.created_at == NOW


async def test_defaults_are_shown_only_when_asked_for(manager):
    await create(manager)
    assert manager.services.get("web").spec.update_config is None
    shown = manager.services.get("web", insert_defaults=True).spec
    second = 10**9
    assert shown.task_template.container_spec.stop_grace_period == 10 * second
    assert shown.task_template.restart_policy.delay == 5 * second
    assert shown.update_config.monitor == shown.rollback_config.monitor == 5 * second
    assert (shown.update_config.parallelism, shown.update_config.order) == (1, "stop-first")
    assert shown.endpoint_spec.mode == "vip"
    assert manager.services.get("web").spec.update_config is None


async def test_a_service_without_a_name_gets_one(manager):
    await create(manager, spec(""))
    assert manager.services.get("random-name")


async def test_a_taken_name_conflicts(manager):
    await create(manager)
    with pytest.raises(Conflict) as caught:
        await create(manager)
    assert caught.value.message == (
        "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service web already exists"
    )


async def test_lookup_goes_by_id_then_name_then_the_beginning_of_an_id(manager, put):
    await put(
        Service(id="abc1", spec=ServiceSpec(name="one")),
        Service(id="abc2", spec=ServiceSpec(name="abc1")),
        Service(id="xyz", spec=ServiceSpec(name="abc")),
    )
    assert manager.services.get("abc1").spec.name == "one"
    assert manager.services.get("abc").id == "xyz"
    assert manager.services.get("xy").id == "xyz"
    with pytest.raises(InvalidArgument, match=r"^service ab is ambiguous \(2 matches found\)$"):
        manager.services.get("ab")
    for ref in ("nosuch", ""):
        with pytest.raises(NotFound, match=rf"^service {ref} not found$"):
            manager.services.get(ref)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (port(8080), port(8080), "port '8080' is already in use by service 'ovs' (id1) as an ingress port"),
        (
            port(8080),
            port(8080, PublishMode="host"),
            "port '8080' is already in use by service 'ovs' (id1) as an ingress port",
        ),
        (
            port(8080, PublishMode="host"),
            port(8080),
            "port '8080' is already in use by service 'ovs' (id1) as a host-published port",
        ),
        (port(8080, PublishMode="host"), port(8080, PublishMode="host"), None),
        (port(8080), port(8080, Protocol="udp"), None),
        (port(8080), port(8081), None),
        (port(0), port(0), None),
    ],
)
async def test_ports_of_other_services_are_refused(manager, first, second, message):
    await create(manager, published(first, name="ovs"))
    if message is None:
        await create(manager, published(second))
        return
    with pytest.raises(InvalidArgument) as caught:
        await create(manager, published(second))
    assert caught.value.message == INVALID + message
    await create(manager, published(port(1234)))
    with pytest.raises(InvalidArgument, match=r"is already in use by service 'ovs'"):
        await manager.services.update("web", manager.services.get("web").version.index, published(second))


async def test_a_port_given_by_the_allocator_counts_as_used(manager, put):
    used = Endpoint(ports=[PortConfig(target_port=80, published_port=30000, protocol="tcp", publish_mode="ingress")])
    await put(Service(id="x", spec=ServiceSpec(name="auto"), endpoint=used))
    with pytest.raises(InvalidArgument, match=r"port '30000' is already in use by service 'auto'"):
        await create(manager, published(port(30000)))


async def test_a_service_keeps_its_own_ports_on_update(manager):
    service_id = await create(manager, published(port(8080)))
    both = published(port(8080), port(8081))
    await manager.services.update("web", manager.services.get("web").version.index, both)
    assert len(manager.services.get(service_id).spec.endpoint_spec.ports) == 2


async def test_networks_are_stored_by_id_once_each(manager, put):
    await put(Network(id="net1", spec=NetworkSpec(name="ov1")))
    attachments = [{"Target": "ov1", "Aliases": ["a"]}, {"Target": "net1", "Aliases": ["a", "b"]}, {"Target": "host"}]
    await create(manager, spec(TaskTemplate={"Networks": attachments}))
    stored = manager.services.get("web").spec.task_template.networks
    assert [(network.target, network.aliases) for network in stored] == [("net1", ["a", "b"]), ("host", [])]


async def test_networks_of_the_old_place_move_to_the_task_template(manager, put):
    await put(Network(id="net1", spec=NetworkSpec(name="ov1")))
    await create(manager, spec(Networks=[{"Target": "ov1"}]))
    stored = manager.services.get("web").spec
    assert [network.target for network in stored.task_template.networks] == ["net1"]
    assert stored.networks == []


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("nosuch", NotFound, "network nosuch not found"),
        (
            "ingress",
            InvalidArgument,
            INVALID + 'Service cannot be explicitly attached to the ingress network "ingress"',
        ),
    ],
)
async def test_networks_that_will_not_do_are_refused(manager, target, error, message):
    with pytest.raises(error) as caught:
        await create(manager, spec(TaskTemplate={"Networks": [{"Target": target}]}))
    assert caught.value.message == message


async def test_published_ports_need_the_ingress_network(manager):
    await manager.networks.remove("ingress")
    with pytest.raises(InvalidArgument) as caught:
        await create(manager, published(port(80)))
    assert caught.value.message == (
        "rpc error: code = FailedPrecondition desc = service needs ingress network, but no ingress network is present"
    )
    await create(manager, published(port(80, PublishMode="host")))


@pytest.mark.parametrize("noun", ["secret", "config"])
async def test_secrets_and_configs_must_exist_under_the_given_name(manager, put, noun):
    await put(Secret(id="s1", spec=SecretSpec(name="right")), Config(id="c1", spec=ConfigSpec(name="right")))
    title, letter = noun.title(), noun[0]

    def refer(*names):
        refs = [{f"{title}ID": f"{letter}1", f"{title}Name": name, "File": {"Name": name}} for name in names]
        return spec(TaskTemplate={"ContainerSpec": {"Image": "i", f"{title}s": refs}})

    with pytest.raises(InvalidArgument) as caught:
        await create(manager, refer("wrong"))
    assert caught.value.message == INVALID + f"{noun} not found: wrong"
    with pytest.raises(InvalidArgument) as caught:
        await create(manager, refer("a", "right", "b"))
    assert caught.value.message == INVALID + f"{noun}s not found: a, b"
    await create(manager, refer("right"))


async def test_a_stale_version_is_out_of_sequence(manager):
    await create(manager)
    version = manager.services.get("web").version.index
    await manager.services.update("web", version, spec(Labels={"a": "b"}))
    with pytest.raises(EnxameError) as caught:
        await manager.services.update("web", version, spec())
    assert caught.value.message == "rpc error: code = Unknown desc = update out of sequence"
    assert caught.value.status == 500
    assert manager.services.get("web").spec.labels == {"a": "b"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (spec("other"), "renaming services is not supported"),
        (spec(Mode={"Global": {}}), "service mode change is not allowed"),
    ],
)
async def test_name_and_mode_stay(manager, given, message):
    await create(manager)
    with pytest.raises(Unimplemented) as caught:
        await manager.services.update("web", manager.services.get("web").version.index, given)
    assert caught.value.message == f"rpc error: code = Unimplemented desc = {message}"
    assert caught.value.status == 501


async def update(manager, given, **options):
    await manager.services.update("web", manager.services.get("web").version.index, given, **options)
    return manager.services.get("web")


def image(name, **fields):
    return spec(TaskTemplate={"ContainerSpec": {"Image": name}, **fields})


async def test_the_spec_version_grows_only_when_tasks_would_differ(manager):
    await create(manager)
    first = manager.services.get("web").internal.spec_version
    scaled = await update(manager, spec(Mode={"Replicated": {"Replicas": 5}}, Labels={"x": "y"}))
    assert scaled.internal.spec_version == first
    changes = (image("nginx:2"), image("nginx:2", ForceUpdate=1), published(port(80)))
    seen = [first] + [(await update(manager, given)).internal.spec_version for given in changes]
    assert seen == sorted(set(seen)), "strictly growing"


async def test_an_update_keeps_the_spec_before_and_rollback_swaps_them(manager, clock):
    await create(manager, image("a"), registry_auth="one")
    await update(manager, image("b"), registry_auth="two")
    before = manager.services.get("web")
    assert before.previous_spec.task_template.container_spec.image == "a"
    assert before.update_status is None
    clock.advance(60)
    back = await update(manager, image("ignored"), rollback="previous")
    assert back.spec == before.previous_spec
    assert back.previous_spec == before.spec
    assert (back.internal.spec_version, back.internal.previous_spec_version) == (
        before.internal.previous_spec_version,
        before.internal.spec_version,
    )
    assert (back.internal.registry_auth, back.internal.previous_registry_auth) == ("one", "two")
    assert back.update_status.state == "rollback_started"
    assert back.update_status.message == "manually requested rollback"
    assert back.update_status.started_at == clock.now
    again = await update(manager, image("c"))
    assert again.update_status is None
    assert again.internal.spec_version > before.internal.spec_version


async def test_rolling_back_what_was_never_updated_is_refused(manager):
    service_id = await create(manager)
    with pytest.raises(InvalidArgument) as caught:
        await update(manager, spec(), rollback="previous")
    assert caught.value.message == (
        f"rpc error: code = FailedPrecondition desc = service {service_id} does not have a previous spec"
    )


async def test_registry_credentials_stay_unless_given_anew(manager):
    await create(manager, image("a"), registry_auth="one")
    assert (await update(manager, image("b"))).internal.registry_auth == "one"
    assert (await update(manager, image("c"), registry_auth="two")).internal.registry_auth == "two"
    old = await update(manager, image("d"), registry_auth_from="previous-spec")
    assert old.internal.registry_auth == "one"


async def test_unknown_options_of_an_update_are_refused(manager):
    await create(manager)
    with pytest.raises(EnxameError, match=r"unrecognized rollback option nonsense"):
        await update(manager, spec(), rollback="nonsense")
    with pytest.raises(EnxameError, match=r"unsupported registryAuthFrom value"):
        await update(manager, spec(), registry_auth_from="moon")


async def test_every_update_of_a_job_is_a_new_run(manager, clock):
    await create(manager, spec(Mode={"ReplicatedJob": {"MaxConcurrent": 2}}))
    job = manager.services.get("web")
    assert job.spec.mode.replicated_job.total_completions == 2
    assert job.job_status.last_execution == NOW
    clock.advance(5)
    again = await update(manager, spec(Mode={"ReplicatedJob": {"MaxConcurrent": 2}}))
    assert again.job_status.job_iteration.index == 1
    assert again.job_status.last_execution == clock.now


async def test_removing_needs_no_version_and_frees_the_name(manager):
    await create(manager)
    await manager.services.remove("web")
    with pytest.raises(NotFound, match=r"^service web not found$"):
        await manager.services.remove("web")
    await create(manager)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, {"web", "web2", "db"}),
        ({"name": {"web"}}, {"web", "web2"}),
        ({"name": {"web", "d"}}, {"web", "web2", "db"}),
        ({"name": {"eb"}}, set()),
        ({"id": {"id1"}}, {"web"}),
        ({"label": {"tier"}}, {"web", "db"}),
        ({"label": {"tier=front"}}, {"web"}),
        ({"label": {"tier=front", "x"}}, set()),
        ({"mode": {"global"}}, {"db"}),
        ({"mode": {"global", "replicated"}}, {"web", "web2", "db"}),
        ({"runtime": {"container"}}, {"web", "web2", "db"}),
        ({"runtime": {"plugin"}}, set()),
        ({"name": {"web"}, "label": {"tier"}}, {"web"}),
    ],
)
async def test_lists_are_filtered(manager, wanted, found):
    await create(manager, spec(Labels={"tier": "front"}))
    await create(manager, spec("web2"))
    await create(manager, spec("db", Labels={"tier": "back"}, Mode={"Global": {}}))
    assert {service.spec.name for service in manager.services.list(filters(**wanted))} == found


async def test_tasks_that_were_replaced_on_a_lost_node_do_not_count(manager, put):
    service_id = await create(manager, spec(Mode={"Replicated": {"Replicas": 1}}))
    running = TaskStatus(state=TaskState.RUNNING)
    await put(
        worker_node("lost", "host2", state="down"),
        worker_node("here", "host3"),
        Task(id="1", service_id=service_id, node_id="lost", status=running, desired_state=TaskState.SHUTDOWN),
        Task(id="2", service_id=service_id, node_id="here", status=running, desired_state=TaskState.RUNNING),
    )
    (service,) = manager.services.list(Filters(), status=True)
    assert service.service_status.running_tasks == 1


async def test_counts_come_from_the_tasks(manager, put):
    service_id = await create(manager, spec(Mode={"Replicated": {"Replicas": 3}}))
    global_id = await create(manager, spec("all", Mode={"Global": {}}))
    running, failed = TaskStatus(state=TaskState.RUNNING), TaskStatus(state=TaskState.FAILED)
    want = {"desired_state": TaskState.RUNNING}
    await put(
        Task(id="1", service_id=service_id, status=running, **want),
        Task(id="2", service_id=service_id, status=failed, desired_state=TaskState.SHUTDOWN),
        Task(id="3", service_id=global_id, status=running, **want),
        Task(id="4", service_id=global_id, status=TaskStatus(state=TaskState.PREPARING), **want),
        Task(id="5", service_id=global_id, status=running, desired_state=TaskState.SHUTDOWN),
    )
    assert all(service.service_status is None for service in manager.services.list(Filters()))
    counts = {s.spec.name: s.service_status for s in manager.services.list(Filters(), status=True)}
    assert (counts["web"].running_tasks, counts["web"].desired_tasks) == (1, 3)
    assert (counts["all"].running_tasks, counts["all"].desired_tasks) == (2, 2)
    assert manager.services.get("web") == replace(manager.services.get("web"), service_status=None)
