"""Networks, of one machine (scope local) and of the swarm (scope swarm)."""

from __future__ import annotations

from datetime import datetime

from msgspec import field

from enxame.model.base import ZERO_TIME, Meta, Model, always
from enxame.model.cluster import Driver
from enxame.model.container import EndpointSettings


class IPAMConfig(Model):
    """One address pool; addresses and subnets as text."""

    subnet: str = ""
    ip_range: str = field(default="", name="IPRange")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] = field(default_factory=dict)


class IPAM(Model):
    """Address management of a network as the Engine API's ``/networks`` shows it."""

    driver: str = always(default="default")
    options: dict[str, str] | None = always(default=None)
    config: list[IPAMConfig] = always(default_factory=list)


class IPAMOptions(Model):
    """Address management of a swarm network as tasks and services show it."""

    driver: Driver = field(default_factory=Driver)
    configs: list[IPAMConfig] = field(default_factory=list)


class ConfigFrom(Model):
    """Name of a config-only network."""

    network: str = always(default="")


class NetworkSpec(Model):
    """What a user asks for, of a swarm-scoped network."""

    name: str = ""
    labels: dict[str, str] = always(default_factory=dict)
    driver_configuration: Driver | None = None
    ipv6_enabled: bool = field(default=False, name="IPv6Enabled")
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    ipam_options: IPAMOptions | None = None
    config_from: ConfigFrom | None = None
    scope: str = ""


class Network(Meta):
    """A swarm network as the store holds it and as a task's ``NetworksAttachments`` shows it."""

    spec: NetworkSpec = field(default_factory=NetworkSpec)
    driver_state: Driver | None = None
    ipam_options: IPAMOptions | None = None


class PeerInfo(Model):
    """A node that takes part in an overlay network."""

    name: str = ""
    ip: str = ""


class ServiceEndpoint(Model):
    """A task of a service on a network, as ``network inspect -v`` shows it. ``endpoint_ip`` is of IPv4, as all that
    Docker shows here; ``endpoint_ipv6`` is there where the task has one.
    """

    name: str = always(default="")
    endpoint_id: str = always(default="")
    endpoint_ip: str = always(default="")
    endpoint_ipv6: str = ""
    info: dict[str, str] = always(default_factory=dict)


class ServiceOnNetwork(Model):
    """A service on a network, as ``network inspect -v`` shows it. ``vip`` is of IPv4; ``vip6`` is there where the
    service has one.
    """

    vip: str = always(default="", name="VIP")
    vip6: str = field(default="", name="VIPv6")
    ports: list[str] = always(default_factory=list)
    local_lb_index: int = always(default=0, name="LocalLBIndex")
    tasks: list[ServiceEndpoint] = always(default_factory=list)


class EndpointResource(Model):
    """A container on a network."""

    name: str = always(default="")
    endpoint_id: str = always(default="")
    mac_address: str = always(default="")
    ipv4_address: str = always(default="")
    ipv6_address: str = always(default="")


class NetworkResource(Model):
    """A network as ``GET /networks`` shows it, whatever its scope."""

    name: str = always(default="")
    id: str = always(default="", name="Id")
    created: datetime = always(default=ZERO_TIME)
    scope: str = always(default="local")
    driver: str = always(default="")
    enable_ipv4: bool = always(default=True)
    enable_ipv6: bool = always(default=False)
    ipam: IPAM = field(default_factory=IPAM)
    internal: bool = always(default=False)
    attachable: bool = always(default=False)
    ingress: bool = always(default=False)
    config_from: ConfigFrom = field(default_factory=ConfigFrom)
    config_only: bool = always(default=False)
    containers: dict[str, EndpointResource] | None = None
    options: dict[str, str] = always(default_factory=dict)
    labels: dict[str, str] = always(default_factory=dict)
    peers: list[PeerInfo] = field(default_factory=list)
    services: dict[str, ServiceOnNetwork] = field(default_factory=dict)


class NetworkCreateRequest(Model):
    """Body of ``POST /networks/create``."""

    name: str = ""
    check_duplicate: bool = False
    driver: str = "bridge"
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigFrom | None = None
    ipam: IPAM | None = None
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


class NetworkConnectRequest(Model):
    """Body of ``POST /networks/{id}/connect``."""

    container: str = ""
    endpoint_config: EndpointSettings | None = None


class NetworkDisconnectRequest(Model):
    """Body of ``POST /networks/{id}/disconnect``."""

    container: str = ""
    force: bool = False


class NetworksPruneReport(Model):
    """What ``POST /networks/prune`` removed, by name."""

    networks_deleted: list[str] | None = always(default=None)
