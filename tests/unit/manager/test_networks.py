import pytest

from enxame.errors import Conflict, EnxameError, InvalidArgument, NotFound
from enxame.model.base import convert
from enxame.model.cluster import Driver
from enxame.model.filters import Filters
from enxame.model.network import IPAMConfig, IPAMOptions, Network, NetworkCreateRequest, NetworkSpec
from enxame.model.service import (
    EndpointSpec,
    NetworkAttachmentConfig,
    PortConfig,
    Service,
    ServiceSpec,
    TaskSpec,
)
from enxame.model.task import NetworkAttachment, Task, TaskState, TaskStatus

INVALID = "rpc error: code = InvalidArgument desc = "
OVERLAY_FROM_PLAN = (
    "an overlay network has its configuration from the swarm, the same on all nodes: it cannot depend on a "
    "configuration network"
)
MACVLAN_WITHOUT_PLAN = (
    "a macvlan network of the swarm has its link and its addresses from each node: make a configuration network there "
    "(network create --config-only --subnet SUBNET --ip-range RANGE --opt parent=LINK NAME) and name it with "
    "--config-from"
)


def request(name="ov1", **fields):
    return convert({"Name": name, "Driver": "overlay", **fields}, NetworkCreateRequest)


def pool(**fields):
    return {"IPAM": {"Config": [fields]}}


async def test_a_new_network_holds_what_was_asked_and_leaves_addresses_to_the_allocator(manager):
    asked = request(Attachable=True, Labels={"a": "b"}, Options={"encrypted": ""}, **pool(Subnet="10.9.0.0/24"))
    network_id = await manager.networks.create(asked)
    stored = manager.store.view.get(Network, network_id)
    assert stored.spec.driver_configuration == Driver(name="overlay", options={"encrypted": ""})
    assert stored.spec.ipam_options.configs == [IPAMConfig(subnet="10.9.0.0/24")]
    assert stored.ipam_options is None
    assert stored.driver_state is None
    shown = manager.networks.get("ov1")
    assert (shown.id, shown.scope, shown.driver, shown.attachable, shown.labels) == (
        network_id,
        "swarm",
        "overlay",
        True,
        {"a": "b"},
    )


async def test_what_the_allocator_gave_is_shown(manager, put):
    await put(
        Network(
            id="n",
            spec=NetworkSpec(name="ov1", scope="swarm"),
            driver_state=Driver(name="overlay", options={"com.docker.network.driver.overlay.vxlanid_list": "4097"}),
            ipam_options=IPAMOptions(
                driver=Driver(name="default"), configs=[IPAMConfig(subnet="10.0.1.0/24", gateway="10.0.1.1")]
            ),
        )
    )
    shown = manager.networks.get("ov1")
    assert shown.options == {"com.docker.network.driver.overlay.vxlanid_list": "4097"}
    assert shown.ipam.config == [IPAMConfig(subnet="10.0.1.0/24", gateway="10.0.1.1")]
    assert shown.ipam.options is None


@pytest.mark.parametrize(
    ("asked", "message", "status"),
    [
        (request(""), INVALID + "meta: name must be provided", 400),
        (request("a b"), INVALID + "name must be valid as a DNS name component", 400),
        (request("host"), "host is a pre-defined network and cannot be created", 403),
        (request(Driver="weird"), 'plugin "weird" not found', 404),
        (request(Driver="null"), INVALID + "error during lookup of plugin null", 400),
        (request(Driver="host"), 'only one instance of "host" network is allowed', 403),
        (request(Driver="ipvlan"), "ipvlan networks are not supported: take a macvlan or a bridge network", 501),
        (
            request(Driver="bridge", IPAM={"Config": [{"Subnet": "10.9.0.0/24"}, {"Subnet": "10.8.0.0/24"}]}),
            "bridge driver doesn't support multiple subnets",
            403,
        ),
        (
            request(Driver="macvlan", ConfigFrom={"Network": "plan"}, **pool(Subnet="10.9.0.0/24")),
            "user specified configurations are not supported if the network depends on a configuration network",
            403,
        ),
        (
            request(Driver="macvlan", ConfigFrom={"Network": "plan"}, Labels={"a": "b"}),
            "user specified configurations are not supported if the network depends on a configuration network",
            403,
        ),
        (
            request(Driver="macvlan", ConfigFrom={"Network": "plan"}, Options={"parent": "eth0"}),
            "network driver options are not supported if the network depends on a configuration network",
            403,
        ),
        (
            request(ConfigFrom={"Network": "plan"}),
            OVERLAY_FROM_PLAN,
            403,
        ),
        (
            request(Driver="macvlan"),
            MACVLAN_WITHOUT_PLAN,
            400,
        ),
        (request(IPAM={"Driver": "weird"}), INVALID + "error during lookup of plugin weird", 400),
        *(
            (request(**pool(Subnet=text)), f"invalid subnet {text}: invalid CIDR block notation", 400)
            for text in (
                "10.0.0.0/99",
                "10.0.0.0",
                "10.0.0.0/255.255.255.0",
                "10.0.0.0/",
                "10.0.0.0/²",
                "fd00::%eth0/64",
            )
        ),
        *(
            (request(**pool(Subnet=text)), INVALID + f"ipam configuration: subnet {text} is not for containers", 400)
            for text in ("127.0.0.0/8", "0.0.0.0/0", "224.0.0.0/24", "255.255.255.0/24", "fe80::/64", "ff00::/8")
        ),
        (
            request(IPAM={"Config": [{"Subnet": f"10.9.{number}.0/24"} for number in range(129)]}),
            INVALID + "an overlay network has at most 128 subnets",
            400,
        ),
        *(
            (
                request(Options={"com.docker.network.driver.mtu": text}),
                INVALID + f"invalid value for the network option com.docker.network.driver.mtu: {text}",
                400,
            )
            for text in ("²", "\uff11400", "9" * 5000, "67", " 1400")
        ),
        *(
            (
                request(Options={"com.docker.network.driver.overlay.vxlanid_list": text}),
                INVALID
                + f"invalid value for the network option com.docker.network.driver.overlay.vxlanid_list: {text}",
                400,
            )
            for text in ("²", "9" * 5000, "0", "16777216", "5000,", "")
        ),
        (
            request(**pool(Subnet="10.9.0.0/24", IPRange="10.9.0.5")),
            INVALID + "ipam configuration: invalid range 10.9.0.5",
            400,
        ),
        (
            request(**pool(Subnet="10.9.0.0/24", IPRange="10.8.0.0/25")),
            INVALID + "ipam configuration: subnet 10.9.0.0/24 does not contain range 10.8.0.0/25",
            400,
        ),
        (
            request(**pool(Subnet="10.9.0.0/24", Gateway="10.8.0.1")),
            INVALID + "ipam configuration: subnet 10.9.0.0/24 does not contain gateway 10.8.0.1",
            400,
        ),
        (
            request(**pool(Subnet="10.9.0.0/24", IPRange="10.9.0.0/16")),
            INVALID + "ipam configuration: subnet 10.9.0.0/24 does not contain range 10.9.0.0/16",
            400,
        ),
        (
            request(**pool(Subnet="10.9.0.0/24", Gateway="10.9.0.255")),
            INVALID + "ipam configuration: invalid gateway 10.9.0.255: it means the whole subnet",
            400,
        ),
        (
            request(IPAM={"Config": [{"Subnet": "10.9.0.0/24"}, {"Subnet": "10.8.0.0/24", "Gateway": "10.9.0.1"}]}),
            INVALID + "ipam configuration: subnet 10.8.0.0/24 does not contain gateway 10.9.0.1",
            400,
        ),
        (
            request(IPAM={"Config": [{"Subnet": "10.9.0.0/24"}, {"Subnet": "10.9.0.0/25"}]}),
            "Pool overlaps with other one on this address space",
            403,
        ),
        (
            request(**pool(Subnet="10.9.0.0/24", Gateway="x")),
            INVALID + "ipam configuration: invalid gateway x",
            400,
        ),
        (
            request(Ingress=True),
            "rpc error: code = AlreadyExists desc = ingress network (ingressid) is already present",
            409,
        ),
        (request(Ingress=True, Attachable=True), INVALID + "ingress network cannot be attachable", 400),
        (
            request(Labels={"com.docker.swarm.internal": ""}),
            (
                "rpc error: code = PermissionDenied desc = label com.docker.swarm.internal is for predefined internal "
                "networks and cannot be applied by users"
            ),
            403,
        ),
    ],
)
async def test_what_breaks_a_rule_is_refused(manager, asked, message, status):
    with pytest.raises(EnxameError) as caught:
        await manager.networks.create(asked)
    assert (caught.value.message, caught.value.status) == (message, status)


async def test_a_taken_name_conflicts(manager):
    await manager.networks.create(request())
    with pytest.raises(Conflict, match=r"^network with name ov1 already exists$"):
        await manager.networks.create(request())


async def test_overlapping_pools_are_refused_at_once(manager):
    await manager.networks.create(request(**pool(Subnet="10.9.0.0/16")))
    with pytest.raises(EnxameError) as caught:
        await manager.networks.create(request("ov2", **pool(Subnet="10.9.5.0/24")))
    assert (caught.value.message, caught.value.status) == ("Pool overlaps with other one on this address space", 403)


async def test_all_of_several_subnets_are_compared_with_others(manager):
    several = [{"Subnet": text} for text in ("10.9.0.0/24", "10.10.0.0/24", "fd00:1::/64", "fd00:2::/64")]
    options = {"com.docker.network.driver.overlay.vxlanid_list": "5000,5001"}
    asked = request(EnableIPv6=True, IPAM={"Config": several}, Options=options)
    stored = manager.store.view.get(Network, await manager.networks.create(asked))
    assert [config.subnet for config in stored.spec.ipam_options.configs] == [item["Subnet"] for item in several]
    for wanted in ("10.10.0.128/25", "fd00:2::/80"):
        with pytest.raises(EnxameError, match="Pool overlaps with other one on this address space"):
            await manager.networks.create(request("ov2", EnableIPv6=True, **pool(Subnet=wanted)))


def attached(service_id, network_id):
    networks = [NetworkAttachmentConfig(target=network_id)]
    return Service(id=service_id, spec=ServiceSpec(name=service_id, task_template=TaskSpec(networks=networks)))


async def test_networks_in_use_stay(manager, put):
    network_id = await manager.networks.create(request())
    await put(attached("s1", network_id))
    with pytest.raises(InvalidArgument) as caught:
        await manager.networks.remove("ov1")
    assert caught.value.message == (
        f"rpc error: code = FailedPrecondition desc = network {network_id} is in use by service s1"
    )
    await manager.services.remove("s1")
    network = manager.store.view.get(Network, network_id)
    running = Task(
        id="t1",
        status=TaskStatus(state=TaskState.RUNNING),
        desired_state=TaskState.RUNNING,
        networks_attachments=[NetworkAttachment(network=network)],
    )
    await put(running)
    with pytest.raises(InvalidArgument, match=rf"network {network_id} is in use by task t1$"):
        await manager.networks.remove("ov1")
    await manager.store.update(lambda tx: tx.delete(Task, "t1"))
    await manager.networks.remove("ov1")
    with pytest.raises(NotFound, match=r"^network ov1 not found$"):
        manager.networks.get("ov1")


async def test_the_ingress_network_stays_while_services_publish_through_it(manager, put):
    publisher = ServiceSpec(name="web", endpoint_spec=EndpointSpec(ports=[PortConfig(target_port=80)]))
    await put(Service(id="s1", spec=publisher))
    with pytest.raises(InvalidArgument) as caught:
        await manager.networks.remove("ingress")
    assert caught.value.message == (
        "rpc error: code = FailedPrecondition desc = ingress network cannot be removed because service s1 depends on it"
    )
    await manager.services.remove("web")
    await manager.networks.remove("ingress")
    await manager.networks.create(request("myingress", Ingress=True))


async def test_the_networks_that_every_node_has_are_not_the_swarms_to_show_or_remove(manager, put):
    spec = NetworkSpec(name="bridge", driver_configuration=Driver(name="bridge"), scope="local")
    await put(Network(id="b", spec=spec))
    assert [network.name for network in manager.networks.list(Filters())] == ["ingress"]
    with pytest.raises(EnxameError, match=r"^bridge is a pre-defined network and cannot be removed$"):
        await manager.networks.remove("bridge")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, {"ingress", "ov1", "ov2"}),
        ({"name": {"ov"}}, {"ov1", "ov2"}),
        ({"id": {"ingressid"}}, {"ingress"}),
        ({"driver": {"overlay"}}, {"ingress", "ov1", "ov2"}),
        ({"driver": {"bridge"}}, set()),
        ({"scope": {"swarm"}}, {"ingress", "ov1", "ov2"}),
        ({"scope": {"local"}}, set()),
        ({"label": {"x"}}, {"ov2"}),
        ({"type": {"custom"}}, {"ingress", "ov1", "ov2"}),
        ({"type": {"builtin"}}, set()),
        ({"dangling": {"true"}}, {"ingress", "ov2"}),
        ({"dangling": {"false"}}, {"ov1"}),
    ],
)
async def test_lists_are_filtered(manager, put, wanted, found):
    network_id = await manager.networks.create(request())
    await manager.networks.create(request("ov2", Labels={"x": "y"}))
    await put(attached("s1", network_id))
    listed = manager.networks.list(Filters({name: frozenset(v) for name, v in wanted.items()}))
    assert {network.name for network in listed} == found


async def test_unknown_types_are_refused(manager):
    with pytest.raises(InvalidArgument, match=r"invalid filter: 'type'='odd'"):
        manager.networks.list(Filters({"type": frozenset({"odd"})}))
