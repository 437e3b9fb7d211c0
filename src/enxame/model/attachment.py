"""Containers outside any service on attachable networks of the swarm, and what nodes ask for them."""

from __future__ import annotations

from msgspec import field

from enxame.model.base import Meta, Model
from enxame.model.network import Network


class Attachment(Meta):
    """A node's container on a network. ``wanted`` are plain addresses that it asked for; ``addresses`` (CIDR) what the
    leader gave it; ``err`` why it gave none. ``link_address`` is the one that it asked for (``02:42:…``), empty for the
    one that follows from its address.
    """

    node_id: str = ""
    network_id: str = ""
    container_id: str = ""
    name: str = ""
    aliases: list[str] = field(default_factory=list)
    wanted: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    link_address: str = ""
    err: str = ""


class AttachRequest(Model):
    """``network`` is an id or a name; ``name`` the container's; ``addresses`` plain ones that it wants;
    ``link_address`` only one that does not follow from its address.
    """

    network: str = ""
    container_id: str = ""
    name: str = ""
    aliases: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    link_address: str = ""


class Attached(Model):
    """The network to be made on the node, and the container's addresses there (CIDR)."""

    network: Network = field(default_factory=Network)
    addresses: list[str] = field(default_factory=list)


class DetachRequest(Model):
    """The container is on the network no more. ``network_id`` empty: on none."""

    container_id: str = ""
    network_id: str = ""
