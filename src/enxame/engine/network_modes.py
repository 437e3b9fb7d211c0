"""What cannot go together with a container's network mode, in Docker's words. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from enxame.errors import InvalidArgument
from enxame.model.container import ContainerConfig, EndpointSettings, HostConfig

__all__ = ["check_network_mode", "with_link_address"]


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
        if given.mac_address:
            raise InvalidArgument("conflicting options: mac-address and the network mode")
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


def with_link_address(
    link_address: str, mode: str, endpoints: Mapping[str, EndpointSettings]
) -> dict[str, EndpointSettings]:
    """The endpoints with the link address that was asked for the container as a whole, as clients up to API 1.43 do:
    it is that of its main network. Raises InvalidArgument when the main network's own is another.
    """
    if not link_address or mode in {"host", "none"}:
        return dict(endpoints)
    main = mode if mode in endpoints else next(iter(endpoints), mode or "default")
    settings = endpoints.get(main, EndpointSettings())
    if settings.mac_address not in {"", link_address}:
        raise InvalidArgument(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be "
            "left empty"
        )
    return {**endpoints, main: replace(settings, mac_address=link_address)}
