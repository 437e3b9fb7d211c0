"""What users of a simulated swarm ask for: services and nodes, created, changed and removed at random."""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec.structs import replace

from enxame.model.base import ObjectVersion
from enxame.model.cluster import NANOSECONDS, Cluster
from enxame.model.network import IPAMConfig, IPAMOptions, Network, NetworkSpec
from enxame.model.node import Node, NodeDescription, NodeResources, NodeSpec, NodeStatus
from enxame.model.service import (
    ContainerSpec,
    EndpointSpec,
    GlobalJob,
    GlobalService,
    JobStatus,
    NetworkAttachmentConfig,
    Placement,
    PortConfig,
    ReplicatedJob,
    ReplicatedService,
    Reservation,
    ResourceRequirements,
    RestartPolicy,
    Service,
    ServiceInternal,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from enxame.store.interface import Tx
from enxame.testing.sim_swarm import SimSwarm


class SimUsers:
    """``size``: how many nodes the swarm may have; services grow with it."""

    def __init__(self, swarm: SimSwarm, rng: random.Random, size: int) -> None:
        self.swarm = swarm
        self.size = size
        self._rng = rng
        self._spec_version = 0

    @property
    def requests(self) -> list[tuple[Callable[[], None], int]]:
        """What they may ask for, and how often."""
        return [
            (self._create_service, 14),
            (self._scale_service, 14),
            (self._update_service, 14),
            (self._remove_service, 5),
            (self._set_availability, 6),
            (self._relabel_node, 3),
            (self.join_node, 2),
            (self._remove_node, 1),
        ]

    def found(self, tx: Tx) -> None:
        """A new swarm, with two networks."""
        tx.create(Cluster(id="cluster"))
        tx.create(Network(id="ingress-id", spec=NetworkSpec(name="ingress", ingress=True)))
        tx.create(Network(id="wide", spec=NetworkSpec(name="wide")))
        # So small that it runs out of addresses.
        tight = IPAMOptions(configs=[IPAMConfig(subnet="10.9.0.0/28")])
        tx.create(Network(id="tight", spec=NetworkSpec(name="tight", ipam_options=tight)))

    def join_node(self) -> None:
        """One more node, up to the swarm's size."""
        if len(self.swarm.links) >= self.size:
            return
        node_id = self.swarm.new_id("n")
        self.swarm.say(f"{node_id} joins")
        self.swarm.add_node(
            Node(
                id=node_id,
                spec=NodeSpec(role="worker", availability="active", labels={"zone": self._rng.choice("ab")}),
                description=NodeDescription(
                    hostname=node_id, resources=NodeResources(nano_cpus=4 * NANOSECONDS, memory_bytes=8 << 30)
                ),
                status=NodeStatus(state="unknown", addr="192.0.2.1"),
            )
        )

    def _create_service(self) -> None:
        if len(self.swarm.store.view.all(Service)) >= 4 + self.size // 6:  # type: ignore[arg-type]
            return
        rng, service_id = self._rng, self.swarm.new_id("s")
        draw = rng.random()
        if draw < 0.06:
            mode = ServiceMode(global_job=GlobalJob())
        elif draw < 0.12:
            mode = ServiceMode(replicated_job=ReplicatedJob(max_concurrent=rng.randint(1, 3), total_completions=4))
        elif draw < 0.3:
            mode = ServiceMode(global_=GlobalService())
        else:
            mode = ServiceMode(replicated=ReplicatedService(replicas=rng.randint(0, 4 + 2 * self.size // 3)))
        spec = ServiceSpec(
            name=service_id,
            mode=mode,
            task_template=self._template(),
            endpoint_spec=self._endpoint(service_id),
            update_config=self._update_config(),
            rollback_config=self._update_config(),
        )
        self._spec_version += 1
        internal = ServiceInternal(spec_version=self._spec_version)
        self.swarm.say(f"create {service_id}: {spec}")
        job = JobStatus() if is_job(spec) else None
        service = Service(id=service_id, spec=spec, internal=internal, job_status=job)
        self.swarm.ask(lambda tx: tx.create(service))

    def _template(self) -> TaskSpec:
        rng = self._rng
        image = rng.choices(["ok", "slow", "missing", "crash", "exits"], [10, 2, 1, 1, 1])[0]
        reserved = Reservation(nano_cpus=rng.randint(1, 2) * NANOSECONDS) if rng.random() < 0.3 else None
        return TaskSpec(
            container_spec=ContainerSpec(image=image, stop_grace_period=rng.randint(1, 15) * NANOSECONDS),
            resources=ResourceRequirements(reservations=reserved) if reserved is not None else None,
            restart_policy=RestartPolicy(
                condition=rng.choices(["any", "on-failure", "none"], [8, 2, 1])[0],
                delay=rng.choice([0, 0, NANOSECONDS, 5 * NANOSECONDS]),
                max_attempts=rng.choice([None, None, None, 3]),
                window=rng.choice([None, 10 * NANOSECONDS]),
            ),
            placement=self._placement(),
            networks=[
                NetworkAttachmentConfig(target=target)
                for target, chance in (("wide", 0.3), ("tight", 0.2))
                if rng.random() < chance
            ],
        )

    def _placement(self) -> Placement | None:
        rng = self._rng
        constraints = [f"node.labels.zone=={rng.choice('ab')}"] if rng.random() < 0.15 else []
        most = rng.randint(1, 3) if rng.random() < 0.15 else 0
        return Placement(constraints=constraints, max_replicas=most) if constraints or most else None

    def _endpoint(self, service_id: str) -> EndpointSpec:
        rng = self._rng
        taken = {
            port.published_port
            for service in self.swarm.store.view.all(Service)
            if service.id != service_id
            for port in [*(service.spec.endpoint_spec or EndpointSpec()).ports, *service.endpoint.ports]
        }
        ports = []
        if rng.random() < 0.4:
            published = rng.choice([0, 8080, 8081, 8082, 30000])
            if published not in taken or not published:
                mode = rng.choices(["ingress", "host"], [4, 1])[0]
                ports.append(PortConfig(protocol="tcp", target_port=80, published_port=published, publish_mode=mode))
        return EndpointSpec(mode=rng.choice(["vip", "vip", "dnsrr"]) if not ports else "vip", ports=ports)

    def _update_config(self) -> UpdateConfig | None:
        rng = self._rng
        if rng.random() < 0.3:
            return None
        return UpdateConfig(
            parallelism=rng.randint(0, 3),
            delay=rng.choice([0, 0, NANOSECONDS]),
            failure_action=rng.choice(["pause", "continue", "rollback"]),
            monitor=rng.choice([NANOSECONDS // 2, 3 * NANOSECONDS]),
            max_failure_ratio=rng.choice([0.0, 0.0, 0.5]),
            order=rng.choice(["stop-first", "stop-first", "start-first"]),
        )

    def _scale_service(self) -> None:
        service = self._any_service()
        if service is not None and service.spec.mode.replicated is not None:
            wanted = self._rng.randint(0, 5 + self.size)
            self.swarm.say(f"scale {service.id} to {wanted}")
            mode = ServiceMode(replicated=ReplicatedService(replicas=wanted))
            self._change_service(service, replace(service.spec, mode=mode))

    def _update_service(self) -> None:
        service = self._any_service()
        if service is not None:
            template = replace(self._template(), force_update=self._rng.randint(1, 1000))
            endpoint = service.spec.endpoint_spec if self._rng.random() < 0.8 else self._endpoint(service.id)
            spec = replace(service.spec, task_template=template, endpoint_spec=endpoint)
            self.swarm.say(f"update {service.id}: {template}")
            self._change_service(service, spec)

    def _change_service(self, service: Service, spec: ServiceSpec) -> None:
        internal = service.internal or ServiceInternal()
        version = internal.spec_version
        old = service.spec
        if (spec.task_template, spec.endpoint_spec) != (old.task_template, old.endpoint_spec):
            self._spec_version += 1
            version = self._spec_version
        job = service.job_status
        if job is not None:
            job = JobStatus(job_iteration=ObjectVersion(index=job.job_iteration.index + 1))
        changed = replace(
            service,
            spec=spec,
            job_status=job,
            previous_spec=old,
            update_status=None,
            internal=ServiceInternal(spec_version=version, previous_spec_version=internal.spec_version),
        )
        self.swarm.ask(lambda tx: tx.update(changed))

    def _remove_service(self) -> None:
        service = self._any_service()
        if service is not None:
            self.swarm.say(f"remove {service.id}")
            self.swarm.ask(lambda tx: tx.delete(Service, service.id))

    def _remove_node(self) -> None:
        if len(self.swarm.links) > 2:
            down = [node_id for node_id, link in self.swarm.links.items() if not link.up]
            # By force, a node may be removed that is up.
            node_id = self._rng.choice(sorted(down) if down and self._rng.random() < 0.7 else sorted(self.swarm.links))
            self.swarm.say(f"remove {node_id}")
            self.swarm.remove_node(node_id)

    def _set_availability(self) -> None:
        node_id = self._rng.choice(sorted(self.swarm.links))
        availability = self._rng.choice(["active", "active", "pause", "drain"])
        self.swarm.say(f"{availability} {node_id}")
        self._change_node(node_id, lambda spec: replace(spec, availability=availability))

    def _relabel_node(self) -> None:
        node_id = self._rng.choice(sorted(self.swarm.links))
        zone = self._rng.choice("ab")
        self.swarm.say(f"{node_id} moves to zone {zone}")
        self._change_node(node_id, lambda spec: replace(spec, labels={"zone": zone}))

    def calm_down(self) -> None:
        """Ask for what can be had: good images, all nodes active."""
        swarm = self.swarm
        for node_id in sorted(swarm.links):
            self._change_node(node_id, lambda spec: replace(spec, availability="active"))
        services = sorted(swarm.store.view.all(Service), key=lambda service: service.id)
        for service in services:
            template = service.spec.task_template
            container = template.container_spec or ContainerSpec()
            good = replace(
                template,
                container_spec=replace(container, image="exits" if is_job(service.spec) else "ok"),
                restart_policy=RestartPolicy(condition="on-failure" if is_job(service.spec) else "any"),
                placement=None,
                force_update=template.force_update + 1,
            )
            self._change_service(service, replace(service.spec, task_template=good))

    def make_do(self) -> bool:
        """Ask for less where something waits: no reservations, ports or addresses that are rare. False: nothing did."""
        swarm = self.swarm
        services = sorted(swarm.store.view.all(Service), key=lambda service: service.id)
        for service in (waiting := [service for service in services if swarm.invariants.waiting(service)]):
            template = service.spec.task_template
            networks = [network for network in template.networks if network.target != "tight"]
            modest = replace(template, networks=networks, resources=None, force_update=template.force_update + 1)
            swarm.say(f"make do {service.id}")
            spec = replace(service.spec, task_template=modest, endpoint_spec=EndpointSpec(mode="vip"))
            self._change_service(service, spec)
        return bool(waiting)

    def _change_node(self, node_id: str, change: Callable[[NodeSpec], NodeSpec]) -> None:
        def update(tx: Tx) -> None:
            node = tx.get(Node, node_id)
            if node is not None:
                tx.update(replace(node, spec=change(node.spec)))

        self.swarm.ask(update)

    def _any_service(self) -> Service | None:
        services = sorted(self.swarm.store.view.all(Service), key=lambda service: service.id)
        return self._rng.choice(services) if services else None


def is_job(spec: ServiceSpec) -> bool:
    """Its tasks are to end."""
    return spec.mode.replicated_job is not None or spec.mode.global_job is not None
