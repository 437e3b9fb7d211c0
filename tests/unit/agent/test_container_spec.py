"""A task's spec as the container it becomes."""

from enxame.agent.container_spec import container_name, container_request
from enxame.agent.template import TemplateContext
from enxame.model.container import Mount, PortBinding
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
