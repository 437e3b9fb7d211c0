"""A task's spec as the container it becomes."""

import pytest

from enxame.agent.container_spec import container_name, container_request, own_addresses
from enxame.agent.template import TemplateContext
from enxame.errors import InvalidArgument
from enxame.model.container import EndpointIPAMConfig, EndpointSettings, Mount, PortBinding
from enxame.model.network import Network, NetworkSpec
from enxame.model.node import NodeDescription
from enxame.model.service import (
    ContainerSpec,
    DNSConfig,
    GenericResource,
    Limit,
    NamedGenericResource,
    PortConfig,
    Privileges,
    Reservation,
    ResourceRequirements,
    TaskSpec,
)
from enxame.model.task import NetworkAttachment, Task, TaskInternal

INGRESS = Network(id="net1", spec=NetworkSpec(name="ingress", ingress=True))


def request(container=None, *, ports=(), attachments=(), slot=1, **spec):
    task = Task(
        id="t1",
        slot=slot,
        node_id="n1",
        service_id="s1",
        spec=TaskSpec(container_spec=container or ContainerSpec(image="img"), **spec),
        networks_attachments=list(attachments),
        assigned_generic_resources=[
            GenericResource(named_resource_spec=NamedGenericResource(kind="gpu", value=name)) for name in ("A", "B")
        ],
        internal=TaskInternal(service_name="web", ports=list(ports)),
    )
    return container_request(task, TemplateContext(task, NodeDescription(hostname="vm1")))


def test_name_is_service_slot_task():
    internal = TaskInternal(service_name="web")
    assert container_name(Task(id="t1", slot=2, node_id="n1", internal=internal)) == "web.2.t1"
    assert container_name(Task(id="t1", slot=0, node_id="n1", internal=internal)) == "web.n1.t1"


def test_system_labels_join_the_users():
    labels = request(ContainerSpec(image="img", labels={"mine": "1"})).labels
    assert labels == {
        "mine": "1",
        "com.docker.swarm.node.id": "n1",
        "com.docker.swarm.service.id": "s1",
        "com.docker.swarm.service.name": "web",
        "com.docker.swarm.task": "",
        "com.docker.swarm.task.id": "t1",
        "com.docker.swarm.task.name": "web.1.t1",
    }


def test_command_replaces_the_entrypoint_and_args_the_command():
    made = request(ContainerSpec(image="img", command=["a"], args=["b"]))
    assert (made.entrypoint, made.cmd) == (["a"], ["b"])
    made = request(ContainerSpec(image="img"))
    assert (made.entrypoint, made.cmd) == (None, None)


def test_limits_and_reservations():
    made = request(
        resources=ResourceRequirements(
            limits=Limit(nano_cpus=5 * 10**8, memory_bytes=64 << 20, pids=7),
            reservations=Reservation(memory_bytes=32 << 20),
        )
    ).host_config
    assert (made.nano_cpus, made.memory, made.pids_limit, made.memory_reservation) == (5 * 10**8, 64 << 20, 7, 32 << 20)


def test_generic_resources_are_told_in_the_environment():
    assert "DOCKER_RESOURCE_GPU=A,B" in request().env


def test_host_ports_are_bound_and_all_ports_exposed():
    ports = [
        PortConfig(target_port=80, published_port=8080, protocol="tcp", publish_mode="ingress"),
        PortConfig(target_port=53, published_port=0, protocol="udp", publish_mode="host"),
    ]
    made = request(ports=ports)
    assert set(made.exposed_ports) == {"80/tcp", "53/udp"}
    assert made.host_config.port_bindings == {"53/udp": [PortBinding(host_port="")]}


def test_allocated_addresses_are_asked_for():
    attachment = NetworkAttachment(network=INGRESS, addresses=["10.0.0.5/24"], aliases=["web"])
    made = request(attachments=[attachment])
    endpoint = made.networking_config.endpoints_config["net1"]
    assert endpoint.ipam_config.ipv4_address == "10.0.0.5"
    assert endpoint.aliases == ["web", "tasks.web"]
    assert made.host_config.network_mode == "net1"


def test_the_hosts_network():
    host = NetworkAttachment(network=Network(id="x", spec=NetworkSpec(name="host")))
    made = request(attachments=[host])
    assert made.host_config.network_mode == "host"
    assert made.networking_config.endpoints_config == {}


BRIDGE = NetworkAttachment(network=Network(id="b", spec=NetworkSpec(name="bridge")))
HOST = NetworkAttachment(network=Network(id="h", spec=NetworkSpec(name="host")))
MESH = NetworkAttachment(network=INGRESS, addresses=["10.0.0.5/24"])
WIRE = NetworkAttachment(network=Network(id="wire1", spec=NetworkSpec(name="wire", scope="swarm")), aliases=["w"])


def test_the_default_bridge_beside_others():
    assert request(attachments=[BRIDGE]).networking_config.endpoints_config == {}
    made = request(attachments=[MESH, BRIDGE])
    assert made.host_config.network_mode == "bridge"
    assert list(made.networking_config.endpoints_config) == ["net1", "bridge"]
    assert made.networking_config.endpoints_config["bridge"].aliases is None


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        (MESH, "container cannot be disconnected from host network or connected to host network"),
        (WIRE, "container sharing network namespace with another container or host cannot be connected to any other"),
        (BRIDGE, "container sharing network namespace with another container or host cannot be connected to any other"),
    ],
)
def test_the_hosts_network_is_alone(beside, message):
    for attachments in ([HOST, beside], [beside, HOST]):
        with pytest.raises(InvalidArgument, match=message):
            request(attachments=attachments)


def test_on_a_network_that_nodes_make_the_engine_gives_the_address():
    made = request(attachments=[WIRE])
    endpoint = made.networking_config.endpoints_config["wire1"]
    assert (endpoint.ipam_config, endpoint.aliases) == (EndpointIPAMConfig(), ["w", "web", "tasks.web"])
    assert made.host_config.network_mode == "wire1"


def test_addresses_that_the_engine_gave_are_told_and_no_others():
    task = Task(id="t1", networks_attachments=[MESH, WIRE, BRIDGE])
    endpoints = {
        "ingress": EndpointSettings(network_id="net1", ip_address="10.0.0.5", ip_prefix_len=24),
        "bridge": EndpointSettings(network_id="b", ip_address="172.17.0.2", ip_prefix_len=16),
        "wire": EndpointSettings(
            network_id="wire1",
            ip_address="10.9.0.2",
            ip_prefix_len=24,
            global_ipv6_address="fd00::2",
            global_ipv6_prefix_len=64,
        ),
    }
    assert own_addresses(task, endpoints) == {"wire1": ["10.9.0.2/24", "fd00::2/64"]}
    assert own_addresses(task, {}) == {}


def test_a_task_without_networks_gets_the_default_bridge():
    assert request().host_config.network_mode == "default"


def test_hosts_lines_become_name_and_address():
    made = request(ContainerSpec(image="img", hosts=["10.1.1.1 db db.local"])).host_config
    assert made.extra_hosts == ["db:10.1.1.1", "db.local:10.1.1.1"]


def test_dns_templates_mounts_and_privileges():
    made = request(
        ContainerSpec(
            image="img",
            hostname="{{.Service.Name}}-{{.Task.Slot}}",
            env=["WHERE={{.Node.Hostname}}"],
            dns_config=DNSConfig(nameservers=["9.9.9.9"]),
            mounts=[Mount(type="bind", source="/data/{{.Task.Slot}}", target="/d")],
            privileges=Privileges(no_new_privileges=True),
        )
    )
    assert made.hostname == "web-1"
    assert made.env[0] == "WHERE=vm1"
    assert made.host_config.dns == ["9.9.9.9"]
    assert made.host_config.mounts == [Mount(type="bind", source="/data/1", target="/d")]
    assert made.host_config.security_opt == ["no-new-privileges=true"]
