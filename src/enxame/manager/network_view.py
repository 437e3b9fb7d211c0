"""A swarm network as ``GET /networks`` shows it, and a request to make one as the store's spec."""

from __future__ import annotations

from collections.abc import Mapping

from enxame.model.cluster import Driver
from enxame.model.network import (
    IPAM,
    ConfigFrom,
    IPAMOptions,
    Network,
    NetworkCreateRequest,
    NetworkResource,
    NetworkSpec,
)

__all__ = ["resource", "spec_of_request"]


def resource(network: Network) -> NetworkResource:
    """The network in the Engine API's form. Containers and peers are for the node to add."""
    spec = network.spec
    driver = network.driver_state or spec.driver_configuration or Driver()
    ipam = network.ipam_options or spec.ipam_options or IPAMOptions()
    return NetworkResource(
        name=spec.name,
        id=network.id,
        created=network.created_at,
        scope=spec.scope or "swarm",
        driver=driver.name or "overlay",
        enable_ipv6=spec.ipv6_enabled,
        ipam=IPAM(driver=ipam.driver.name or "default", options=_or_none(ipam.driver.options), config=ipam.configs),
        internal=spec.internal,
        attachable=spec.attachable,
        ingress=spec.ingress,
        config_from=spec.config_from or ConfigFrom(),
        options=dict(driver.options),
        labels=spec.labels,
    )


def spec_of_request(request: NetworkCreateRequest) -> NetworkSpec:
    """What a client's request asks of the swarm."""
    ipam = request.ipam
    return NetworkSpec(
        name=request.name,
        labels=request.labels,
        driver_configuration=Driver(name=request.driver, options=request.options),
        ipv6_enabled=request.enable_ipv6,
        internal=request.internal,
        attachable=request.attachable,
        ingress=request.ingress,
        ipam_options=None
        if ipam is None
        else IPAMOptions(driver=Driver(name=ipam.driver or "default", options=ipam.options or {}), configs=ipam.config),
        config_from=request.config_from,
        scope="swarm",
    )


def _or_none(options: Mapping[str, str]) -> dict[str, str] | None:
    return dict(options) or None
