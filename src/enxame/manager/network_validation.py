"""The rules for swarm networks."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from enxame.control.network_state import VXLAN_OPTION
from enxame.control.subnets import LAST_VXLAN_ID
from enxame.errors import InvalidArgument, PermissionDenied, rpc_error
from enxame.manager.node_local_validation import check_driver
from enxame.model.natural import natural
from enxame.model.network import IPAMConfig, Network, NetworkSpec
from enxame.model.node import Node
from enxame.store.interface import View

__all__ = ["check_ingress", "check_overlaps", "check_spec"]

_PREDEFINED: Final = ("bridge", "host", "none", "default")
_INTERNAL_LABEL: Final = "com.docker.swarm.internal"
_NAME: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_-]*[a-zA-Z0-9])?", re.ASCII)
_MAX_NAME: Final = 63
_MTU: Final = "com.docker.network.driver.mtu"
#: IPv6 needs 1280; IPv4 is content with less.
_MIN_MTU: Final = 68
_MAX_MTU: Final = 65_535
#: Network, gateway, broadcast, and at least one container.
_LONGEST_PREFIX: Final = {4: 29, 6: 125}
_MAX_SUBNETS: Final = 128
#: Loopback, multicast and the like: a machine that had a bridge of these could not use its own.
_NOT_FOR_CONTAINERS: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "::/127", "fe80::/10", "ff00::/8")
)

_Subnet: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def check_spec(spec: NetworkSpec) -> None:
    """Check what does not depend on other objects.

    Raises:
        InvalidArgument: out of rule.
        PermissionDenied: a name or label that is the daemon's own.
    """
    if spec.name in _PREDEFINED:
        raise PermissionDenied(f"{spec.name} is a pre-defined network and cannot be created")
    check_dns_name(spec.name)
    if _INTERNAL_LABEL in spec.labels:
        raise rpc_error(
            "PermissionDenied",
            f"label {_INTERNAL_LABEL} is for predefined internal networks and cannot be applied by users",
        )
    check_driver(spec)
    _check_options(spec.driver_configuration.options if spec.driver_configuration is not None else {})
    if spec.ingress and spec.attachable:
        raise rpc_error("InvalidArgument", "ingress network cannot be attachable")
    if spec.ipam_options is not None:
        if spec.ipam_options.driver.name not in ("", "default"):
            raise rpc_error("InvalidArgument", f"error during lookup of plugin {spec.ipam_options.driver.name}")
        if len(spec.ipam_options.configs) > _MAX_SUBNETS:
            raise rpc_error("InvalidArgument", f"an overlay network has at most {_MAX_SUBNETS} subnets")
        for config in spec.ipam_options.configs:
            _check_pool(config)
        _check_families(spec)


def _check_families(spec: NetworkSpec) -> None:
    subnets = [config.subnet for config in spec.ipam_options.configs if config.subnet] if spec.ipam_options else []
    families = {_parse(subnet).version for subnet in subnets}
    if 6 in families and not spec.ipv6_enabled:
        raise rpc_error("InvalidArgument", "an IPv6 subnet needs a network with IPv6 (--ipv6)")


def _check_options(options: Mapping[str, str]) -> None:
    mtu = options.get(_MTU)
    if mtu and not _MIN_MTU <= (natural(mtu) or 0) <= _MAX_MTU:
        raise rpc_error("InvalidArgument", f"invalid value for the network option {_MTU}: {mtu}")
    ids = options.get(VXLAN_OPTION)
    # One for each subnet, as where those are links of their own; here all share one.
    if ids is not None and not all(0 < (natural(item) or 0) <= LAST_VXLAN_ID for item in ids.split(",")):
        raise rpc_error("InvalidArgument", f"invalid value for the network option {VXLAN_OPTION}: {ids}")


def check_dns_name(name: str) -> None:
    """The rule for names of services and networks. Raises InvalidArgument."""
    if not name:
        raise rpc_error("InvalidArgument", "meta: name must be provided")
    if not _NAME.fullmatch(name):
        raise rpc_error("InvalidArgument", "name must be valid as a DNS name component")
    if len(name) > _MAX_NAME:
        raise rpc_error("InvalidArgument", "name must be 63 characters or fewer")


def check_ingress(view: View, spec: NetworkSpec) -> None:
    """Raises Conflict when there is an ingress network already."""
    if spec.ingress:
        for network in view.all(Network):
            if network.spec.ingress:
                raise rpc_error("AlreadyExists", f"ingress network ({network.id}) is already present")


def check_overlaps(view: View, spec: NetworkSpec) -> None:
    """Raises PermissionDenied (as Docker) when a wanted pool overlaps with that of another swarm network."""
    configs = spec.ipam_options.configs if spec.ipam_options is not None else []
    wanted = [_parse(config.subnet) for config in configs if config.subnet]
    others = [taken for network in view.all(Network) for taken in _pools(network)] if wanted else []
    for index, pool in enumerate(wanted):
        if any(_overlap(pool, other) for other in (*wanted[:index], *others)):
            raise PermissionDenied("Pool overlaps with other one on this address space")
        for node in view.all(Node):
            for text in node.description.subnets:
                there = ipaddress.ip_network(text)
                if _overlap(pool, there):
                    raise rpc_error(
                        "InvalidArgument",
                        f"subnet {pool} overlaps with {there}, which node {node.description.hostname or node.id} is "
                        "on: choose another",
                    )


def _pools(network: Network) -> list[_Subnet]:
    options = network.ipam_options or network.spec.ipam_options
    configs = options.configs if options is not None else []
    return [ipaddress.ip_network(config.subnet, strict=False) for config in configs if config.subnet]


def _parse(text: str) -> _Subnet:
    """``ADDRESS/LENGTH``; host bits are ignored. Raises ValueError."""
    address, slash, length = text.partition("/")
    if not slash or natural(length) is None or "%" in address:
        raise ValueError(text)
    return ipaddress.ip_network(text, strict=False)


def _overlap(one: _Subnet, other: _Subnet) -> bool:
    return one.version == other.version and one.overlaps(other)


def _check_pool(config: IPAMConfig) -> None:
    if not config.subnet:
        if config.ip_range or config.gateway:
            raise rpc_error("InvalidArgument", "ipam configuration: invalid subnet ")
        return
    try:
        subnet = _parse(config.subnet)
    except ValueError:
        raise InvalidArgument(f"invalid subnet {config.subnet}: invalid CIDR block notation") from None
    if any(_overlap(subnet, other) for other in _NOT_FOR_CONTAINERS):
        raise rpc_error("InvalidArgument", f"ipam configuration: subnet {config.subnet} is not for containers")
    if subnet.prefixlen > _LONGEST_PREFIX[subnet.version]:
        raise rpc_error("InvalidArgument", f"ipam configuration: subnet {config.subnet} has no room for containers")
    if config.ip_range:
        try:
            inner = _parse(config.ip_range)
        except ValueError:
            raise rpc_error("InvalidArgument", f"ipam configuration: invalid range {config.ip_range}") from None
        if inner.network_address not in subnet or inner.broadcast_address not in subnet:
            raise rpc_error(
                "InvalidArgument",
                f"ipam configuration: subnet {config.subnet} does not contain range {config.ip_range}",
            )
    for word, text in (("gateway", config.gateway), *(("address", a) for a in config.auxiliary_addresses.values())):
        if not text:
            continue
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise rpc_error("InvalidArgument", f"ipam configuration: invalid {word} {text}") from None
        if address not in subnet:
            raise rpc_error(
                "InvalidArgument", f"ipam configuration: subnet {config.subnet} does not contain {word} {text}"
            )
        if address == subnet.network_address or (subnet.version == 4 and address == subnet.broadcast_address):
            raise rpc_error("InvalidArgument", f"ipam configuration: invalid {word} {text}: it means the whole subnet")
