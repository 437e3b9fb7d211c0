"""The kinds of objects that are stored: their names, indexes, unique names and codecs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from enxame.errors import Conflict, EnxameError, rpc_error
from enxame.model.attachment import Attachment
from enxame.model.base import Meta
from enxame.model.cluster import Cluster
from enxame.model.network import Network
from enxame.model.node import Node
from enxame.model.secret import Config, Secret
from enxame.model.service import Service
from enxame.model.task import Task

__all__ = ["KINDS", "KINDS_BY_NAME", "Kind", "encode_record"]

Indexer = Callable[[Any], Iterable[Hashable]]

encode_record: Callable[[Meta], bytes] = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. ``indexes`` map an object to the values it is found by (none, one or many).

    ``name_conflict`` makes the error for a taken name; ``None`` where names need not be unique.
    """

    type: type[Meta]
    name: str
    indexes: Mapping[str, Indexer]
    name_conflict: Callable[[str], EnxameError] | None
    decode: Callable[[bytes], Meta]


def _spec_name(obj: Any) -> tuple[str, ...]:
    name = obj.spec.name
    return (name.lower(),) if name else ()


def _task_name(task: Task) -> tuple[str, ...]:
    return (task.name.lower(),) if task.name else ()


def _task_networks(task: Task) -> Iterable[str]:
    return dict.fromkeys(attachment.network.id for attachment in task.networks_attachments)


def _service_networks(service: Service) -> Iterable[str]:
    networks = service.spec.task_template.networks or service.spec.networks
    return dict.fromkeys(attachment.target for attachment in networks)


def _service_secrets(service: Service) -> Iterable[str]:
    container = service.spec.task_template.container_spec
    return dict.fromkeys(secret.secret_id for secret in container.secrets) if container else ()


def _service_configs(service: Service) -> Iterable[str]:
    container = service.spec.task_template.container_spec
    return dict.fromkeys(config.config_id for config in container.configs) if container else ()


def _service_name_conflict(name: str) -> EnxameError:
    return rpc_error("AlreadyExists", f"name conflicts with an existing object: service {name} already exists")


def _secret_name_conflict(name: str) -> EnxameError:
    return rpc_error("AlreadyExists", f"secret {name} already exists")


def _config_name_conflict(name: str) -> EnxameError:
    return rpc_error("AlreadyExists", f"config {name} already exists")


def _network_name_conflict(name: str) -> EnxameError:
    return Conflict(f"network with name {name} already exists")


def _kind(
    type_: type[Meta],
    *,
    name: Indexer = _spec_name,
    conflict: Callable[[str], EnxameError] | None = None,
    **indexes: Indexer,
) -> Kind:
    decode = msgspec.msgpack.Decoder(type_).decode
    return Kind(type_, type_.__name__.lower(), {"name": name, **indexes}, conflict, decode)


KINDS: Final[Mapping[type[Meta], Kind]] = {
    kind.type: kind
    for kind in (
        _kind(Cluster),
        _kind(Node, hostname=lambda node: (node.description.hostname,) if node.description.hostname else ()),
        _kind(
            Service,
            conflict=_service_name_conflict,
            network_id=_service_networks,
            secret_id=_service_secrets,
            config_id=_service_configs,
        ),
        _kind(
            Task,
            name=_task_name,
            service_id=lambda task: (task.service_id,) if task.service_id else (),
            node_id=lambda task: (task.node_id,) if task.node_id else (),
            slot=lambda task: ((task.service_id, task.slot),),
            desired_state=lambda task: (task.desired_state,),
            network_id=_task_networks,
        ),
        _kind(Network, conflict=_network_name_conflict),
        _kind(
            Attachment,
            name=lambda _: (),
            node_id=lambda attachment: (attachment.node_id,),
            network_id=lambda attachment: (attachment.network_id,),
        ),
        _kind(Secret, conflict=_secret_name_conflict),
        _kind(Config, conflict=_config_name_conflict),
    )
}

KINDS_BY_NAME: Final[Mapping[str, Kind]] = {kind.name: kind for kind in KINDS.values()}
