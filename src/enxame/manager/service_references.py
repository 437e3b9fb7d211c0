"""The rules for a service's spec that depend on other objects: networks, secrets, configs, ports of other services."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from enxame.errors import rpc_error
from enxame.manager import lookup
from enxame.model.network import Network
from enxame.model.secret import Config, Secret
from enxame.model.service import Endpoint, EndpointSpec, NetworkAttachmentConfig, Service, ServiceSpec
from enxame.store.interface import View

__all__ = ["check_ingress", "check_payloads", "check_ports", "needs_ingress", "with_network_ids"]

#: Every node has its own of these; services may attach to them by name.
_PREDEFINED: Final = frozenset({"bridge", "host"})


def with_network_ids(view: View, spec: ServiceSpec) -> ServiceSpec:
    """The spec with its networks by id. They move to the task template, where they belong.

    Raises:
        NotFound: ``network X not found``.
        InvalidArgument: ambiguous, or the routing mesh's own network.
    """
    given = spec.task_template.networks or spec.networks
    resolved = _resolved(view, given)
    return replace(spec, networks=[], task_template=replace(spec.task_template, networks=resolved))


def _resolved(view: View, attachments: Sequence[NetworkAttachmentConfig]) -> list[NetworkAttachmentConfig]:
    resolved: dict[str, NetworkAttachmentConfig] = {}
    #: Of those that are named several times.
    aliases: dict[str, dict[str, None]] = {}
    for attachment in attachments:
        if attachment.target in _PREDEFINED and not view.find(Network, "name", attachment.target):
            target = attachment.target
        else:
            network = lookup.network(view, attachment.target)
            if network.spec.ingress:
                raise rpc_error(
                    "InvalidArgument",
                    f'Service cannot be explicitly attached to the ingress network "{network.spec.name}"',
                )
            target = network.id
        # The same network by name and by id, or twice with other aliases, is one attachment.
        known = resolved.get(target)
        if known is None:
            resolved[target] = replace(attachment, target=target)
        else:
            aliases.setdefault(target, dict.fromkeys(known.aliases)).update(dict.fromkeys(attachment.aliases))
    return [
        replace(attachment, aliases=list(aliases[target])) if target in aliases else attachment
        for target, attachment in resolved.items()
    ]


def check_payloads(view: View, spec: ServiceSpec) -> None:
    """Raises InvalidArgument for secrets and configs that do not exist under the id and name given."""
    container = spec.task_template.container_spec
    if container is None:
        return
    _check_payloads(
        "secret",
        (
            ref.secret_name
            for ref in container.secrets
            if (secret := view.get(Secret, ref.secret_id)) is None or secret.spec.name != ref.secret_name
        ),
    )
    _check_payloads(
        "config",
        (
            ref.config_name
            for ref in container.configs
            if (config := view.get(Config, ref.config_id)) is None or config.spec.name != ref.config_name
        ),
    )


def _check_payloads(noun: str, missing: Iterable[str]) -> None:
    names = list(missing)
    if names:
        raise rpc_error("InvalidArgument", f"{noun if len(names) == 1 else noun + 's'} not found: {', '.join(names)}")


def check_ports(view: View, spec: ServiceSpec, service_id: str = "") -> None:
    """Raises InvalidArgument for a port that another service than ``service_id`` publishes."""
    wanted = _by_mode(spec.endpoint_spec)
    if not wanted:
        return
    for service in view.all(Service):
        if service.id == service_id:
            continue
        taken = _by_mode(service.spec.endpoint_spec) | _by_mode(service.endpoint)
        for (number, protocol), mode in taken.items():
            mine = wanted.get((number, protocol))
            # The scheduler sees to it that services with the same host-mode port are not on one node.
            if mine is not None and "ingress" in (mine, mode):
                kind = "an ingress" if mode == "ingress" else "a host-published"
                raise rpc_error(
                    "InvalidArgument",
                    f"port '{number}' is already in use by service '{service.spec.name}' ({service.id}) as {kind} port",
                )


def _by_mode(endpoint: EndpointSpec | Endpoint | None) -> dict[tuple[int, str], str]:
    return {
        (port.published_port, port.protocol or "tcp"): port.publish_mode or "ingress"
        for port in (endpoint.ports if endpoint is not None else ())
        if port.published_port
    }


def needs_ingress(endpoint: EndpointSpec | None) -> bool:
    """Whether ports are published through the routing mesh."""
    return endpoint is not None and any(port.publish_mode in ("", "ingress") for port in endpoint.ports)


def check_ingress(view: View, spec: ServiceSpec) -> None:
    """Raises InvalidArgument when the routing mesh is needed and its network was removed."""
    if needs_ingress(spec.endpoint_spec) and not any(network.spec.ingress for network in view.all(Network)):
        raise rpc_error("FailedPrecondition", "service needs ingress network, but no ingress network is present")
