"""The rules for networks that are made from a configuration, in Docker's words."""

from __future__ import annotations

from enxame.errors import PermissionDenied
from enxame.model.network import NetworkCreateRequest

__all__ = ["check_config_from"]


def check_config_from(request: NetworkCreateRequest) -> None:
    """Raises PermissionDenied when a network depends on a configuration and is none the less configured by itself."""
    if request.config_from is None or not request.config_from.network:
        return
    if request.config_only:
        raise PermissionDenied("a configuration network cannot depend on another configuration network")
    ipam = request.ipam
    own = ipam is not None and (ipam.config or ipam.options or ipam.driver not in ("", "default"))
    if own or request.enable_ipv6 or request.labels:
        raise PermissionDenied(
            "user specified configurations are not supported if the network depends on a configuration network"
        )
    if request.options:
        raise PermissionDenied(
            "network driver options are not supported if the network depends on a configuration network"
        )
