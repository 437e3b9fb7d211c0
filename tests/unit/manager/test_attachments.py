"""Containers outside services asking for a place on a network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import count

import pytest
from msgspec.structs import replace

from enxame.control.leader import Leader
from enxame.control.now import Now
from enxame.errors import Conflict, EnxameError, InvalidArgument, NotFound, PermissionDenied
from enxame.manager import attachments
from enxame.manager.leader_loop import LeaderLoop
from enxame.model.attachment import Attachment, AttachRequest, DetachRequest
from enxame.model.cluster import Cluster, Driver
from enxame.model.network import IPAMConfig, IPAMOptions, Network, NetworkSpec
from enxame.store.interface import Tx
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """A swarm that is led, with a network of five addresses."""
    store = Store(MemoryBackend(), wall=lambda: NOW)
    await store.start()
    ids = count()
    loop = asyncio.get_running_loop()
    leader = Leader(lambda: f"id{next(ids)}", random.Random(1).random)
    leading = asyncio.create_task(LeaderLoop(store, leader, lambda: Now(loop.time(), NOW)).run())
    pool = IPAMOptions(configs=[IPAMConfig(subnet="10.7.0.0/29")])

    def found(tx: Tx) -> None:
        tx.create(Cluster(id="swarm"))
        tx.create(Network(id="net-open", spec=NetworkSpec(name="open", attachable=True, ipam_options=pool)))
        tx.create(Network(id="net-shut", spec=NetworkSpec(name="shut")))
        wire = NetworkSpec(name="wire", driver_configuration=Driver(name="macvlan"), attachable=True, scope="swarm")
        tx.create(Network(id="net-wire", spec=wire))
        tx.create(Network(id="net-host", spec=NetworkSpec(name="host", scope="local")))

    await store.update(found)
    yield store
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    await store.close()


def request(container: str = "c1", network: str = "open", *addresses: str) -> AttachRequest:
    return AttachRequest(network=network, container_id=container, name=container, addresses=list(addresses))


async def test_an_address_is_given_and_stays_for_the_same_container(store: Store) -> None:
    first = await attachments.attach(store, "n1", request())
    again = await attachments.attach(store, "n1", request(network="net-open"))
    other = await attachments.attach(store, "n2", request())
    assert first.network.id == "net-open"
    assert first.addresses == again.addresses
    assert other.addresses != first.addresses
    assert len(store.view.all(Attachment)) == 2


async def test_where_nodes_give_addresses_they_are_only_noted(store: Store) -> None:
    given = await attachments.attach(store, "n1", request(network="wire"))
    assert (given.network.id, given.addresses) == ("net-wire", [])
    (noted,) = store.view.all(Attachment)
    assert (noted.node_id, noted.addresses) == ("n1", [])
    assert await attachments.attach(store, "n1", request("c1", "wire", "10.98.0.64")) == given
    (noted,) = store.view.all(Attachment)
    assert (noted.addresses, noted.wanted, noted.err) == (["10.98.0.64"], [], "")
    await attachments.detach(store, "n1", DetachRequest(container_id="c1"))
    assert not store.view.all(Attachment)


async def test_another_wish_replaces_what_was_there(store: Store) -> None:
    before = await attachments.attach(store, "n1", request())
    after = await attachments.attach(store, "n1", request("c1", "open", "10.7.0.6"))
    assert after.addresses == ["10.7.0.6/29"]
    taken = before.addresses[0].partition("/")[0]
    assert (await attachments.attach(store, "n1", request("c2", "open", taken))).addresses == before.addresses


@pytest.mark.parametrize(
    ("network", "error", "text"),
    [
        ("absent", NotFound, "network absent not found"),
        ("host", NotFound, "network host not found"),
        ("shut", PermissionDenied, "rpc error: code = PermissionDenied desc = network shut not manually attachable"),
    ],
)
async def test_who_may_not_is_told_why(store: Store, network: str, error: type[EnxameError], text: str) -> None:
    with pytest.raises(error) as caught:
        await attachments.attach(store, "n1", request(network=network))
    assert caught.value.message == text
    assert not store.view.all(Attachment)


async def test_a_full_network_says_so_and_has_room_when_somebody_leaves(store: Store) -> None:
    for number in range(5):
        await attachments.attach(store, "n1", request(f"c{number}"))
    with pytest.raises(EnxameError, match="could not find an available IP on network open"):
        await attachments.attach(store, "n1", request("late"))
    assert len(store.view.all(Attachment)) == 5
    await attachments.detach(store, "n1", DetachRequest(container_id="c3", network_id="net-open"))
    assert (await attachments.attach(store, "n1", request("late"))).addresses


async def test_a_node_that_leaves_takes_its_containers_along(store: Store) -> None:
    await attachments.attach(store, "n1", request("c1"))
    kept = await attachments.attach(store, "n2", request("c2"))
    await attachments.detach_all(store, "n1")
    assert [item.addresses for item in store.view.all(Attachment)] == [kept.addresses]
    await attachments.detach(store, "n1", DetachRequest(container_id="c1"))


@pytest.mark.parametrize("moment", range(4))
async def test_a_cancelled_wish_leaves_nothing(store: Store, moment: int) -> None:
    asking = asyncio.create_task(attachments.attach(store, "n1", request()))
    for _ in range(moment):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert asking.cancelled()
    await store.update(lambda _: None)
    assert not store.view.all(Attachment)


async def test_a_link_address_is_one_containers_and_nobody_elses_by_rule(store: Store) -> None:
    def asking(container: str, link: str, *addresses: str) -> AttachRequest:
        return replace(request(container, "open", *addresses), link_address=link)

    await attachments.attach(store, "n1", asking("c1", "02:00:00:00:00:01"))
    await attachments.attach(store, "n1", asking("c1", "02:00:00:00:00:01"))
    assert [item.link_address for item in store.view.all(Attachment)] == ["02:00:00:00:00:01"]
    with pytest.raises(Conflict, match="mac address 02:00:00:00:00:01 is already in use by container c1 on network op"):
        await attachments.attach(store, "n2", asking("c2", "02:00:00:00:00:01"))
    with pytest.raises(InvalidArgument, match=r"on network open it belongs to 10\.7\.0\.4"):
        await attachments.attach(store, "n2", asking("c2", "02:42:0a:07:00:04"))
    with pytest.raises(InvalidArgument, match="reserved: those that begin with 06:65"):
        await attachments.attach(store, "n2", asking("c2", "06:65:00:00:00:01"))
    for none in ("01:00:00:00:00:01", "00:00:00:00:00:00", "02:00", "x"):
        with pytest.raises(InvalidArgument, match="not a valid mac address"):
            await attachments.attach(store, "n2", asking("c2", none))
    await attachments.attach(store, "n2", asking("c2", "02:42:0a:08:00:04"))
    assert len(store.view.all(Attachment)) == 2
