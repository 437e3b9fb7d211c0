"""Networks as they are defined: what a user may ask for, and what a bridge becomes of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Final

import msgspec

from enxame.engine.networks import subnets
from enxame.engine.networks.underlay import Underlay
from enxame.errors import InvalidArgument, NotFound, PermissionDenied, Unimplemented
from enxame.model.config_networks import check_config_from
from enxame.model.natural import natural
from enxame.model.network import IPAM, ConfigFrom, IPAMConfig, Network, NetworkCreateRequest, NetworkResource
from enxame.network.address_pools import Addresses4, Addresses6
from enxame.network.bridge import Bridge
from enxame.network.ipam import SubnetPool
from enxame.network.link_names import BRIDGE_PREFIX
from enxame.network.macvlan import MODES
from enxame.network.vxlan import OVERHEAD

DEFAULT_BRIDGE: Final = "enxame0"
PREDEFINED: Final = ("bridge", "host", "none")

_OPTION: Final = "com.docker.network.bridge."
_MTU: Final = "com.docker.network.driver.mtu"
_DEFAULT_MTU: Final = 1500
_LINK_NAME_LENGTH: Final = 15


def requested(
    request: NetworkCreateRequest,
    id_: str,
    created: datetime,
    *,
    pools: Sequence[SubnetPool],
    own: Iterable[IPv4Network],
    own6: Iterable[IPv6Network] = (),
    foreign: Iterable[IPv4Network],
) -> NetworkResource:
    """The bridge network that a user asked for, with its subnet and gateway settled.

    ``own`` and ``own6`` are the subnets of this machine's other networks, ``foreign`` what its routing table leads to.

    Raises:
        InvalidArgument, PermissionDenied, NotFound, Unimplemented: what Docker refuses, or we do not have.
    """
    _check(request)
    driver = request.driver or "bridge"
    of_four, of_six = subnets.asked(request.ipam, driver)
    config = subnets.settled(of_four, own, foreign, pools)
    if request.enable_ipv6:
        config += subnets.settled6(of_six, own6)
    resource = NetworkResource(
        name=request.name,
        id=id_,
        created=created,
        driver=driver,
        config_from=request.config_from or ConfigFrom(),
        enable_ipv6=request.enable_ipv6,
        internal=request.internal,
        attachable=request.attachable,
        options=request.options,
        labels=request.labels,
        ipam=IPAM(options=request.ipam.options if request.ipam else None, config=config),
    )
    pool, pool6 = subnets.address_pool(resource), subnets.address_pool6(resource)
    bridge_of(resource, pool, None, pool6)  # refuses bad options before anything is made
    gateways = [str(gateway.ip) for gateway in (*pool.gateways, *(pool6.gateways if pool6 is not None else ()))]
    configs = [
        msgspec.structs.replace(item, gateway=gateway)
        for item, gateway in zip(resource.ipam.config, gateways, strict=True)
    ]
    return msgspec.structs.replace(resource, ipam=msgspec.structs.replace(resource.ipam, config=configs))


def default_bridge(
    id_: str, created: datetime, subnet: IPv4Network, gateway: str = "", subnet6: IPv6Network | None = None
) -> NetworkResource:
    """The network that containers join when they ask for none; without ``subnet6`` it has no IPv6."""
    gateway = gateway or str(next(subnet.hosts()))
    config6 = [IPAMConfig(subnet=str(subnet6), gateway=str(subnet6[1]))] if subnet6 is not None else []
    return NetworkResource(
        name="bridge",
        id=id_,
        created=created,
        driver="bridge",
        enable_ipv6=subnet6 is not None,
        ipam=IPAM(config=[IPAMConfig(subnet=str(subnet), gateway=gateway), *config6]),
        options={
            f"{_OPTION}default_bridge": "true",
            f"{_OPTION}enable_icc": "true",
            f"{_OPTION}enable_ip_masquerade": "true",
            f"{_OPTION}host_binding_ipv4": "0.0.0.0",
            f"{_OPTION}name": DEFAULT_BRIDGE,
            _MTU: str(_DEFAULT_MTU),
        },
    )


def without_bridge(name: str, driver: str, id_: str, created: datetime) -> NetworkResource:
    """The networks ``host`` and ``none``."""
    return NetworkResource(name=name, id=id_, created=created, driver=driver)


def of_swarm(network: Network, *, ipv6: bool = True) -> NetworkResource:
    """The local side of a swarm network; without ``ipv6`` that of a machine where that is switched off.

    Raises:
        InvalidArgument: the manager has given it no IPv4 subnet.
    """
    configs = network.ipam_options.configs if network.ipam_options else []
    of_four = [item for item in configs if item.subnet and ":" not in item.subnet]
    if not of_four:
        raise InvalidArgument(f"network {network.spec.name} ({network.id}) has no subnet")
    of_six = [item for item in configs if ":" in item.subnet] if ipv6 and network.spec.ipv6_enabled else []
    options = {**_driver_options(network)}
    return NetworkResource(
        name=network.spec.name,
        id=network.id,
        created=network.created_at,
        scope="swarm",
        driver="overlay",
        internal=network.spec.internal,
        attachable=network.spec.attachable,
        ingress=network.spec.ingress,
        enable_ipv6=bool(of_six),
        ipam=IPAM(config=[*of_four, *of_six]),
        options=options,
        labels=network.spec.labels,
    )


def differ_in_ipv6(one: NetworkResource, other: NetworkResource) -> bool:
    """Whether one has IPv6 and the other has not, while their IPv4 addresses are the same."""
    return one.enable_ipv6 != other.enable_ipv6 and subnets.of_four(one) == subnets.of_four(other)


def bridge_of(
    resource: NetworkResource,
    pool: Addresses4,
    underlay: Underlay | None = None,
    pool6: Addresses6 | None = None,
) -> Bridge:
    """The bridge of a network. With an ``underlay`` that of a swarm network reaches other machines.

    Raises:
        InvalidArgument: an option's value makes no sense.
    """
    options = resource.options
    gateway, *further = pool.gateways
    gateway6, *further6 = pool6.gateways if pool6 is not None else (None,)
    if resource.driver == "overlay":
        return Bridge(
            name=f"{BRIDGE_PREFIX}{resource.id[:10]}",
            gateway=gateway,
            mtu=_mtu(options, underlay.inner_mtu(resource) if underlay is not None else _DEFAULT_MTU - OVERHEAD[4]),
            gateway6=gateway6,
            further=(*further, *further6),
            internal=resource.internal,
            mac=underlay.mac if underlay is not None else b"",
            tunnel=underlay.tunnel(resource) if underlay is not None else None,
        )
    if resource.driver == "macvlan":
        parent, mode = _macvlan_options(options)
        return Bridge(
            name=f"{BRIDGE_PREFIX}{resource.id[:10]}",
            gateway=gateway,
            mtu=_mtu(options, 0),
            internal=resource.internal,
            gateway6=gateway6,
            further=(*further, *further6),
            parent=parent,
            mode=mode,
        )
    name = options.get(f"{_OPTION}name") or f"{BRIDGE_PREFIX}{resource.id[:10]}"
    if len(name) > _LINK_NAME_LENGTH or "/" in name or any(character.isspace() for character in name):
        raise InvalidArgument(
            f"invalid bridge name {name!r}: at most {_LINK_NAME_LENGTH} characters without / or space"
        )
    return Bridge(
        name=name,
        gateway=gateway,
        mtu=_mtu(options),
        masquerade=_flag(options, f"{_OPTION}enable_ip_masquerade", default=True),
        internal=resource.internal,
        isolated=not _flag(options, f"{_OPTION}enable_icc", default=True),
        gateway6=gateway6,
    )


def host_binding(resource: NetworkResource) -> str:
    """The host address that ports are published on when a container names none."""
    return resource.options.get(f"{_OPTION}host_binding_ipv4", "")


def _check_name(name: str) -> None:
    if not name.strip():
        raise InvalidArgument("network name cannot be empty")
    if name in PREDEFINED or name == "default":
        raise PermissionDenied(f"operation is not permitted on predefined {name} network")


def _check(request: NetworkCreateRequest) -> None:
    driver = request.driver or "bridge"
    _check_name(request.name)
    if driver in ("host", "null"):
        raise PermissionDenied(f'only one instance of "{driver}" network is allowed')
    if driver == "ipvlan":
        raise Unimplemented("ipvlan networks are not supported: take a macvlan or a bridge network")
    if driver not in ("bridge", "macvlan"):
        raise NotFound(f'plugin "{driver}" not found')
    if request.scope not in ("", "local"):
        raise InvalidArgument(f"invalid scope {request.scope!r} for the driver {driver}")
    if request.ingress:
        raise PermissionDenied("Ingress network can only be global scope")
    if not request.enable_ipv4:
        raise Unimplemented("networks without IPv4 are not supported")
    if request.ipam is not None and request.ipam.driver not in ("", "default"):
        raise NotFound(f"could not find IPAM driver {request.ipam.driver}")


def _macvlan_options(options: Mapping[str, str]) -> tuple[str, str]:
    """Parent link and mode. Raises InvalidArgument."""
    for name in options:
        if name not in ("parent", "macvlan_mode", _MTU):
            raise InvalidArgument(f"invalid option for the driver macvlan: {name}")
    parent, mode = options.get("parent", ""), options.get("macvlan_mode") or "bridge"
    if not parent:
        raise InvalidArgument("a macvlan network needs a link of this machine: give it with -o parent=LINK")
    if len(parent) > _LINK_NAME_LENGTH:
        raise InvalidArgument(f"invalid parent {parent!r}: it is no name of a link")
    if mode not in MODES:
        raise InvalidArgument(
            f"requested macvlan mode '{mode}' is not valid, 'bridge' mode is the macvlan driver default"
        )
    return parent, mode


def configuration(request: NetworkCreateRequest, id_: str, created: datetime) -> NetworkResource:
    """A network that only is a configuration, for others to be made from.

    Raises:
        InvalidArgument, PermissionDenied: what Docker refuses.
    """
    _check_name(request.name)
    if request.ingress or request.internal or request.attachable or request.scope not in ("", "local"):
        raise PermissionDenied(
            "configuration network can only contain network specific fields. Network operator fields like "
            "[ ingress | internal | attachable | scope ] are not supported."
        )
    check_config_from(request)
    subnets.check(request.ipam)
    return NetworkResource(
        name=request.name,
        id=id_,
        created=created,
        driver="null",
        enable_ipv6=request.enable_ipv6,
        config_only=True,
        ipam=request.ipam or IPAM(),
        options=request.options,
        labels=request.labels,
    )


def configured(request: NetworkCreateRequest, source: NetworkResource | None) -> NetworkCreateRequest:
    """What a request for a network made from the configuration ``source`` comes to.

    Raises:
        NotFound: there is no such configuration.
        PermissionDenied: the request has a configuration of its own.
    """
    if request.config_from is None or not request.config_from.network:
        return request
    check_config_from(request)
    if source is None or not source.config_only:
        raise NotFound(f'configuration network "{request.config_from.network}" does not exist')
    return msgspec.structs.replace(
        request,
        enable_ipv6=source.enable_ipv6,
        ipam=source.ipam,
        options=source.options,
        labels=source.labels,
        config_from=ConfigFrom(network=source.name),
    )


def _driver_options(network: Network) -> Mapping[str, str]:
    for driver in (network.driver_state, network.spec.driver_configuration):
        if driver is not None and driver.options:
            return driver.options
    return {}


def _mtu(options: Mapping[str, str], default: int = _DEFAULT_MTU) -> int:
    text = options.get(_MTU, "")
    if not text:
        return default
    number = natural(text)
    if number is None or not 68 <= number <= 65535:
        raise InvalidArgument(f"invalid value for the network option {_MTU}: {text}")
    return number


def _flag(options: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = options.get(name, "").lower()
    if text in ("", "true", "1"):
        return default if not text else True
    if text in ("false", "0"):
        return False
    raise InvalidArgument(f"invalid value for the network option {name}: {options[name]}")
