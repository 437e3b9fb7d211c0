"""A node puts one of its containers on an attachable network of the swarm, and takes it off again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Final

from msgspec.structs import replace

from enxame.control.network_state import is_made_by_nodes, is_node_local
from enxame.errors import EnxameError, NotFound, Unavailable, rpc_error
from enxame.manager import lookup
from enxame.manager.link_addresses import check_link_address
from enxame.model.attachment import Attached, Attachment, AttachRequest, DetachRequest
from enxame.model.network import Network
from enxame.store.interface import Tx
from enxame.store.store import Store
from enxame.store.watch import Watch, WatchLagged

__all__ = ["attach", "detach", "detach_all"]

#: How long the leader may take to give an address: seconds.
DEADLINE: Final = 8.0
_ID_LENGTH: Final = 25
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


async def attach(store: Store, node_id: str, request: AttachRequest) -> Attached:
    """The container's address on the network; the one that it has, when it is on it already. None on networks where its
    node gives it one: what that tells here, the others learn.

    Raises:
        NotFound: ``network X not found``.
        PermissionDenied: the network is not attachable.
        EnxameError: no address is to be had.
    """
    created: list[str] = []
    async with store.watch(Attachment) as watch:
        try:
            made = None
            while made is None:
                made = await store.update(lambda tx: _note(tx, node_id, request, created))
            network = store.view.get(Network, made.network_id)
            if network is not None and is_made_by_nodes(network):
                return Attached(network=network)
            async with asyncio.timeout(DEADLINE):
                made = await _allocated(store, watch, made)
            if made.err:
                raise EnxameError(made.err)
        except BaseException as error:
            # What was asked of the store is done even for one who does not wait for it: it is taken back behind it.
            await asyncio.shield(_delete(store, created))
            if isinstance(error, TimeoutError):
                raise Unavailable("the leader gave no address in time: check the managers' logs") from None
            raise
    network = store.view.get(Network, made.network_id)
    if network is None:
        raise NotFound(f"network {request.network} not found")
    return Attached(network=network, addresses=made.addresses)


async def detach(store: Store, node_id: str, request: DetachRequest) -> None:
    """The container is on the network no more, or on none. Idempotent."""
    mine = [
        attachment.id
        for attachment in store.view.find(Attachment, "node_id", node_id)
        if attachment.container_id == request.container_id and request.network_id in ("", attachment.network_id)
    ]
    if mine:
        await _delete(store, mine)


async def detach_all(store: Store, node_id: str) -> None:
    """The node is in the swarm no more."""
    mine = store.view.find(Attachment, "node_id", node_id)
    if mine:
        await _delete(store, [attachment.id for attachment in mine])


def _note(tx: Tx, node_id: str, request: AttachRequest, created: list[str]) -> Attachment | None:
    """Write the wish down. None: what was there before had to go first; once more. ``created`` gets the id of what was
    not there before.
    """
    try:
        network = lookup.network(tx, request.network)
    except NotFound:
        raise NotFound(f"network {request.network} not found") from None
    by_node = is_made_by_nodes(network)
    if is_node_local(network) and not by_node:
        raise NotFound(f"network {request.network} not found")
    if not network.spec.attachable:
        raise rpc_error("PermissionDenied", f"network {network.spec.name} not manually attachable")
    wanted = Attachment(
        id=_id(node_id, request.container_id, network.id),
        node_id=node_id,
        network_id=network.id,
        container_id=request.container_id,
        name=request.name,
        aliases=request.aliases,
        wanted=[] if by_node else request.addresses,
        addresses=request.addresses if by_node else [],
        link_address=request.link_address,
    )
    if not by_node:
        check_link_address(tx, network, wanted)
    known = tx.get(Attachment, wanted.id)
    if known is None:
        tx.create(wanted)
        created.append(wanted.id)
        return wanted
    have = {address.partition("/")[0] for address in known.addresses}
    if not by_node and (known.err or not have.issuperset(request.addresses)):
        tx.delete(Attachment, known.id)
        return None
    changed = replace(known, name=request.name, aliases=request.aliases, link_address=request.link_address)
    if by_node:
        changed = replace(changed, addresses=request.addresses)
    if changed != known:
        tx.update(changed)
    return changed


async def _allocated(store: Store, watch: Watch, made: Attachment) -> Attachment:
    """The attachment as the leader answered it."""
    while True:
        current = store.view.get(Attachment, made.id)
        if current is None:
            raise Unavailable("the container was detached again")
        if current.addresses or current.err:
            return current
        with suppress(WatchLagged):
            await watch.next()


async def _delete(store: Store, ids: Sequence[str]) -> None:
    def change(tx: Tx) -> None:
        for attachment_id in ids:
            if tx.get(Attachment, attachment_id) is not None:
                tx.delete(Attachment, attachment_id)

    await store.update(change)


def _id(node_id: str, container_id: str, network_id: str) -> str:
    """The same for the same wish: asking again does no harm."""
    number = int.from_bytes(sha256(f"{node_id} {container_id} {network_id}".encode()).digest()[:17])
    digits = []
    for _ in range(_ID_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(digits)
