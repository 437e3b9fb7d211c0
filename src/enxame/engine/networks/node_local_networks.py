"""Networks of the swarm that every machine makes for itself, with addresses of its own: bridge and macvlan."""

from __future__ import annotations

from msgspec.structs import replace

from enxame.engine.networks.local_networks import LocalNetworks
from enxame.model.cluster import Driver
from enxame.model.network import IPAM, IPAMOptions, Network, NetworkCreateRequest

__all__ = ["is_node_local", "make"]


def is_node_local(network: Network) -> bool:
    """Whether a swarm's network is to be made so."""
    driver = network.spec.driver_configuration
    return driver is not None and driver.name not in ("", "overlay")


async def make(local: LocalNetworks, network: Network) -> None:
    """Make this machine's own; ``local.changing`` is held.

    Raises:
        NotFound: the configuration network that it is to be made from is not on this machine.
        EnxameError: what that says cannot be had here.
    """
    made = await local.define(_request(network), network.id, network.created_at)
    made.resource = replace(made.resource, scope="swarm")
    await local.add(made)


def _request(network: Network) -> NetworkCreateRequest:
    spec = network.spec
    driver, ipam = spec.driver_configuration or Driver(), spec.ipam_options or IPAMOptions()
    return NetworkCreateRequest(
        name=spec.name,
        driver=driver.name,
        internal=spec.internal,
        attachable=spec.attachable,
        config_from=spec.config_from,
        ipam=IPAM(driver=ipam.driver.name or "default", options=ipam.driver.options or None, config=ipam.configs),
        enable_ipv6=spec.ipv6_enabled,
        options=driver.options,
        labels=spec.labels,
    )
