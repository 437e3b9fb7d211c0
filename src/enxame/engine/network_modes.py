"""What cannot go together with a container's network mode, in Docker's words. Pure."""

from __future__ import annotations

from enxame.errors import InvalidArgument
from enxame.model.container import ContainerConfig, HostConfig

__all__ = ["check_network_mode"]


def check_network_mode(given: ContainerConfig, host: HostConfig, warnings: list[str]) -> None:
    """``given`` is what the client said, without what the image adds. Raises InvalidArgument."""
    mode = host.network_mode
    if mode in {"container", "container:"}:
        raise InvalidArgument("invalid network mode: invalid container format container:<name|id>")
    if mode.startswith("container:"):
        _check_shared(given, host)
    if host.uts_mode == "host" and given.hostname:
        raise InvalidArgument("conflicting options: hostname and the UTS mode")
    if mode == "host":
        if host.links:
            raise InvalidArgument(
                "conflicting options: host type networking can't be used with links. "
                "This would result in undefined behavior"
            )
        if host.port_bindings:
            warnings.append("Published ports are discarded when using host network mode")


def _check_shared(given: ContainerConfig, host: HostConfig) -> None:
    for wrong, what in (
        (given.hostname, "hostname and the network mode"),
        (
            host.links,
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (host.dns, "dns and the network mode"),
        (host.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (given.mac_address, "mac-address and the network mode"),
        (host.port_bindings or host.publish_all_ports, "port publishing and the container type network mode"),
        (given.exposed_ports, "port exposing and the container type network mode"),
    ):
        if wrong:
            raise InvalidArgument(f"conflicting options: {what}")
