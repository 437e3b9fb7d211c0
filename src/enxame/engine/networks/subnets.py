"""The subnets of a network of this machine: as users ask for them, and the addresses in them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from os import uname
from typing import TypeVar

from msgspec.structs import replace

from enxame.errors import InvalidArgument, PermissionDenied
from enxame.model.network import IPAM, IPAMConfig, NetworkResource
from enxame.network.address_pool import AddressPool, AddressPool6, N
from enxame.network.address_pools import Addresses4, Addresses6, AddressPools
from enxame.network.ipam import SubnetPool, free_subnet, parse_address, parse_subnet
from enxame.network.ipam6 import free_subnet6, parse_address6, parse_subnet6

P = TypeVar("P", AddressPool, AddressPool6)

#: On the wire somebody else leads from one subnet to the other.
_SEVERAL = frozenset({"macvlan"})


def asked(ipam: IPAM | None, driver: str) -> tuple[list[IPAMConfig], list[IPAMConfig]]:
    """What is said of IPv4 and of IPv6. Raises PermissionDenied where the driver has one subnet of each."""
    found = _by_version(ipam)
    if driver not in _SEVERAL and any(len(configs) > 1 for configs in found):
        raise PermissionDenied(f"{driver} driver doesn't support multiple subnets")
    return found


def _by_version(ipam: IPAM | None) -> tuple[list[IPAMConfig], list[IPAMConfig]]:
    configs = ipam.config if ipam is not None else []
    six = [item for item in configs if any(":" in text for text in (item.subnet, item.gateway, item.ip_range))]
    return [item for item in configs if item not in six], six


def settled(
    configs: Sequence[IPAMConfig],
    own: Iterable[IPv4Network],
    foreign: Iterable[IPv4Network],
    pools: Sequence[SubnetPool],
) -> list[IPAMConfig]:
    """With their IPv4 subnets; where none is asked for, one of the pools.

    Raises:
        InvalidArgument: something is malformed, or has no subnet that it belongs to.
        PermissionDenied: another network (``own``) has a subnet.
        EnxameError: the pools are used up.
    """
    taken = list(own)
    if not any(config.subnet for config in configs):
        config = _alone(configs)
        if config.gateway or config.ip_range:
            raise InvalidArgument("invalid network config: a gateway or ip-range needs a subnet")
        return [replace(config, subnet=str(free_subnet(pools, [*taken, *foreign])))]
    return _given(configs, taken, parse_subnet)


def settled6(configs: Sequence[IPAMConfig], own: Iterable[IPv6Network]) -> list[IPAMConfig]:
    """The same of IPv6; where none is asked for, one of this machine's own unique local addresses."""
    taken = list(own)
    if not any(config.subnet for config in configs):
        return [replace(_alone(configs), subnet=str(free_subnet6(uname().nodename, taken)))]
    return _given(configs, taken, parse_subnet6)


def check(ipam: IPAM | None) -> None:
    """Raises InvalidArgument when a subnet is none."""
    for configs, parse in zip(_by_version(ipam), (parse_subnet, parse_subnet6), strict=True):
        for config in configs:
            if config.subnet:
                parse(config.subnet)


def _alone(configs: Sequence[IPAMConfig]) -> IPAMConfig:
    return configs[0] if configs else IPAMConfig()


def _given(configs: Sequence[IPAMConfig], taken: list[N], parse: Callable[[str], N]) -> list[IPAMConfig]:
    found = []
    for config in configs:
        subnet = parse(config.subnet)
        if any(subnet.overlaps(other) for other in taken):
            raise PermissionDenied("Pool overlaps with other one on this address space")
        taken.append(subnet)
        found.append(replace(config, subnet=str(subnet)))
    return found


def of_four(resource: NetworkResource) -> list[IPAMConfig]:
    """What a network has of IPv4."""
    return [item for item in resource.ipam.config if ":" not in item.subnet]


def address_pool(resource: NetworkResource) -> Addresses4:
    """The addresses of a bridged network, none but the gateway and the auxiliary ones in use.

    Raises:
        InvalidArgument: an address is not of its subnet, or malformed.
    """
    configs = of_four(resource) or [IPAMConfig()]
    return AddressPools([_pool(AddressPool, resource, config, parse_subnet, parse_address) for config in configs])


def address_pool6(resource: NetworkResource) -> Addresses6 | None:
    """The IPv6 addresses of a bridged network, if it has such.

    Raises:
        InvalidArgument: an address is not of its subnet, or malformed.
    """
    configs = [item for item in resource.ipam.config if ":" in item.subnet]
    if not configs or not resource.enable_ipv6:
        return None
    return AddressPools([_pool(AddressPool6, resource, config, parse_subnet6, parse_address6) for config in configs])


def _pool(
    pool: Callable[..., P],
    resource: NetworkResource,
    config: IPAMConfig,
    subnet: Callable[[str], IPv4Network | IPv6Network],
    address: Callable[[str, str], IPv4Address | IPv6Address],
) -> P:
    """Of one subnet, with what reads subnets and addresses of its version."""
    return pool(
        subnet(config.subnet),
        ip_range=subnet(config.ip_range) if config.ip_range else None,
        gateway=address(config.gateway.partition("/")[0], "gateway") if config.gateway else None,
        reserved=[address(text, "auxiliary address") for text in config.auxiliary_addresses.values()],
        name=f"{resource.name} ({resource.id[:12]})",
    )
