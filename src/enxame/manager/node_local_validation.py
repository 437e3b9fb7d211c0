"""The rules for networks of the swarm that each node makes for itself."""

from __future__ import annotations

from enxame.errors import InvalidArgument, NotFound, PermissionDenied, Unimplemented, rpc_error
from enxame.model.network import NetworkSpec

__all__ = ["check_driver"]


def check_driver(spec: NetworkSpec) -> None:
    """Check the driver of a swarm's network, and what it wants or cannot have.

    Raises:
        NotFound, InvalidArgument, PermissionDenied, Unimplemented: there is no such driver, or nodes could not use it.
    """
    driver = spec.driver_configuration.name if spec.driver_configuration is not None else ""
    configured = spec.config_from is not None and bool(spec.config_from.network)
    match driver or "overlay":
        case "overlay":
            if configured:
                raise PermissionDenied(
                    "an overlay network has its configuration from the swarm, the same on all nodes: it cannot depend "
                    "on a configuration network"
                )
        case "bridge":
            _check_subnets(spec)
        case "macvlan":
            if not configured:
                raise InvalidArgument(
                    "a macvlan network of the swarm has its link and its addresses from each node: make a "
                    "configuration network there (network create --config-only --subnet SUBNET --ip-range RANGE "
                    "--opt parent=LINK NAME) and name it with --config-from"
                )
        case "ipvlan":
            raise Unimplemented("ipvlan networks are not supported: take a macvlan or a bridge network")
        case "host":
            raise PermissionDenied('only one instance of "host" network is allowed')
        case "null":
            raise rpc_error("InvalidArgument", "error during lookup of plugin null")
        case _:
            raise NotFound(f'plugin "{driver}" not found')


def _check_subnets(spec: NetworkSpec) -> None:
    subnets = [config.subnet for config in spec.ipam_options.configs] if spec.ipam_options is not None else []
    if sum(":" in subnet for subnet in subnets) > 1 or sum(":" not in subnet for subnet in subnets) > 1:
        raise PermissionDenied("bridge driver doesn't support multiple subnets")
