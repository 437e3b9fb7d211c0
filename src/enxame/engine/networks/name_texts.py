"""The texts of ``/etc/hosts`` and ``/etc/resolv.conf`` that a container is given with its networks."""

from __future__ import annotations

from msgspec.structs import replace

from enxame.engine.networks import name_files
from enxame.engine.networks.name_service import NameService
from enxame.engine.networks.registry import NetworkRegistry
from enxame.engine.networks.sandbox_records import SandboxRecord
from enxame.engine.sandbox import SandboxRequest

__all__ = ["NameTexts", "host_hosts", "host_resolv_conf", "lone_hosts", "lone_resolv_conf"]


class NameTexts:
    """For containers on networks of their own."""

    def __init__(self, registry: NetworkRegistry, names: NameService) -> None:
        self._registry = registry
        self._names = names

    def written(self, record: SandboxRecord) -> SandboxRecord:
        """Its record, with the texts of the container's files."""
        request, info = record.request, record.info
        endpoints = info.endpoints.values()
        addresses = [
            address for item in endpoints for address in (item.ip_address, item.global_ipv6_address) if address
        ]
        gateway = next((endpoint.gateway for endpoint in endpoints if endpoint.gateway), "")
        extra = [*request.extra_hosts, *self._linked_hosts(record)]
        hosts = name_files.hosts_text(addresses, request.hostname, request.domainname, extra, gateway)
        return replace(record, info=replace(info, hosts=hosts, resolv_conf=self._names.resolv_conf(record)))

    def _linked_hosts(self, record: SandboxRecord) -> list[str]:
        """On the default bridge, where there is no resolver of ours, links are lines of the hosts file."""
        bridge = self._registry.by_name("bridge")
        if bridge is None or record.container_id not in bridge.endpoints:
            return []
        lines: list[str] = []
        for link in record.request.links:
            target, _, alias = link.partition(":")
            target, alias = target.lstrip("/"), alias.rpartition("/")[2]
            for container_id, endpoint in bridge.endpoints.items():
                if target == endpoint.name or (len(target) >= 12 and container_id.startswith(target)):
                    address = endpoint.ipv4_address.partition("/")[0]
                    names = dict.fromkeys((alias or endpoint.name, container_id[:12], endpoint.name))
                    lines += [f"{name}:{address}" for name in names]
        return lines


def host_hosts(request: SandboxRequest) -> str:
    """For a container on the host's network."""
    return name_files.host_hosts_text(request.extra_hosts)


def host_resolv_conf(request: SandboxRequest) -> str:
    """The same; the host's own resolver can be reached."""
    return name_files.resolv_text(
        servers=request.dns, search=request.dns_search, options=request.dns_options, keep_loopback=True
    )


def lone_hosts(request: SandboxRequest) -> str:
    """For a container on no network."""
    return name_files.hosts_text((), request.hostname, request.domainname, request.extra_hosts)


def lone_resolv_conf(request: SandboxRequest) -> str:
    """The same."""
    return name_files.resolv_text(servers=request.dns, search=request.dns_search, options=request.dns_options)
