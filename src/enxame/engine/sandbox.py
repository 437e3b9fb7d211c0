"""What a container asks of the network manager, and what it gets: the words of ``NetworkManager.connect``."""

from __future__ import annotations

from msgspec import field

from enxame.model.base import Model
from enxame.model.container import EndpointSettings, PortBinding


class SandboxRequest(Model):
    """The network side of one container, resolved: what to connect it to and what to publish.

    ``name`` without its leading slash. ``endpoints`` by network name or id, as the client gave them; empty means
    the network that ``network_mode`` names. ``exposed_ports`` are texts such as ``80/tcp``. ``links`` are
    ``container:alias``. ``waits_to_serve``: its aliases lead to it only after ``NetworkManager.set_serving``.
    """

    name: str = ""
    hostname: str = ""
    domainname: str = ""
    network_mode: str = ""
    endpoints: dict[str, EndpointSettings] = field(default_factory=dict)
    port_bindings: dict[str, list[PortBinding]] = field(default_factory=dict)
    exposed_ports: list[str] = field(default_factory=list)
    publish_all: bool = False
    dns: list[str] = field(default_factory=list)
    dns_search: list[str] = field(default_factory=list)
    dns_options: list[str] = field(default_factory=list)
    extra_hosts: list[str] = field(default_factory=list)
    sysctls: dict[str, str] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    waits_to_serve: bool = False


class SandboxInfo(Model):
    """The network side as it became. It is stored with the container and handed to ``restore`` after a restart.

    ``netns_path`` is empty for the host's own namespace. ``endpoints`` by network name. ``ports`` as bound:
    ``80/tcp`` to its bindings with real host ports; an exposed port that is not published has an empty list.
    ``hosts`` and ``resolv_conf`` are the texts of the container's files.
    """

    netns_path: str = ""
    sandbox_id: str = ""
    endpoints: dict[str, EndpointSettings] = field(default_factory=dict)
    ports: dict[str, list[PortBinding]] = field(default_factory=dict)
    hosts: str = ""
    resolv_conf: str = ""
