"""The data plane's ways into the kernel, each by itself, in a namespace of the test's own."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from enxame.errors import EnxameError
from enxame.network import rtnetlink
from enxame.network.namespace_rules import Change, NamespaceRules, transaction_of
from enxame.network.namespaces import NamespacePool
from enxame.network.netlink import NetlinkError, NetlinkSocket
from enxame.network.nft_messages import IPV4, add_table, delete_chain
from enxame.network.nftables import Nftables, NftablesError
from enxame.testing.namespace import run
from tests.engine.network_lab import Lab, links, names_in

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
async def nftables(lab: Lab) -> AsyncIterator[Nftables]:
    nftables = Nftables()
    with lab.within_host():
        await nftables.start()
    yield nftables
    await nftables.stop()


@pytest.fixture
async def pool(lab: Lab, tmp_path: Path) -> AsyncIterator[NamespacePool]:
    (tmp_path / "netns").mkdir()
    (tmp_path / "netns" / "stale").touch()
    (tmp_path / "netns" / "kept").touch()
    pool = NamespacePool(tmp_path / "netns", 2)
    with lab.within_host():
        await pool.start({"kept"})
    yield pool
    await pool.stop()
    assert names_in(tmp_path / "netns") <= {"kept"}


async def test_transactions_are_applied_wholly_or_not_at_all(nftables: Nftables) -> None:
    with pytest.raises(NftablesError, match="No such file or directory"):
        await nftables.run("add table inet one\nadd rule inet one absent accept\n")
    assert await nftables.query("list tables") == ""


async def test_a_bad_text_among_many_that_come_together_spoils_only_itself(nftables: Nftables) -> None:
    texts = [f"add table inet t{number}\n" for number in range(20)]
    texts[7] = "add nonsense\n"
    outcomes = await asyncio.gather(*(nftables.run(text) for text in texts), return_exceptions=True)
    assert [number for number, outcome in enumerate(outcomes) if outcome is not None] == [7]
    assert isinstance(outcomes[7], NftablesError)
    assert "syntax error" in outcomes[7].message
    assert len((await nftables.query("list tables")).split("\n")) == 19 + 1


async def test_cancelled_caller_does_not_stop_the_others(nftables: Nftables) -> None:
    pending = [asyncio.create_task(nftables.run(f"add table inet t{number}\n")) for number in range(5)]
    await asyncio.sleep(0)
    pending[2].cancel()
    outcomes = await asyncio.gather(*pending, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [asyncio.CancelledError]
    await nftables.run("add table inet last\n")


async def test_unused_names_are_removed_at_start_and_the_pool_never_runs_dry(
    pool: NamespacePool, tmp_path: Path, lab: Lab
) -> None:
    assert "stale" not in names_in(tmp_path / "netns")
    assert "kept" in names_in(tmp_path / "netns")
    taken = await asyncio.gather(*(pool.take() for _ in range(10)))
    assert len({namespace.path for namespace in taken}) == 10
    for namespace in taken:
        assert links(lab, str(namespace.path)) == {"lo"}
        namespace.close()
        namespace.close()
    await pool.remove([namespace.path for namespace in taken])
    await pool.remove([namespace.path for namespace in taken])


async def test_settings_are_written_inside_the_namespace_alone(pool: NamespacePool, lab: Lab) -> None:
    setting = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    namespace = await pool.take()
    namespace.close()
    outside = await asyncio.to_thread(setting.read_text)
    await pool.write_settings(namespace.path, {"net.ipv4.ip_unprivileged_port_start": "7"})
    assert lab.run(str(namespace.path), setting.read_text).strip() == "7"
    assert await asyncio.to_thread(setting.read_text) == outside
    for name in ("kernel.hostname", "net.ipv4.no_such_thing", "net./etc/passwd", "net.../kernel"):
        with pytest.raises(EnxameError, match="sysctl"):
            await pool.write_settings(namespace.path, {name: "1"})
    await pool.remove([namespace.path])


async def test_vanished_namespace_is_a_clear_error(pool: NamespacePool, tmp_path: Path) -> None:
    with pytest.raises(EnxameError, match="open the network namespace"):
        await pool.open(tmp_path / "nowhere")
    not_a_namespace = tmp_path / "file"
    not_a_namespace.touch()
    with pytest.raises(EnxameError, match="enter the network namespace"):
        await pool.open(not_a_namespace)


async def test_rules_for_namespaces_that_go_meanwhile_are_passed_over_in_silence(
    pool: NamespacePool, lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    rules = NamespaceRules()
    with lab.within_host():
        await rules.start()
    there, going = await pool.take(), await pool.take()
    transaction = transaction_of([add_table(IPV4, "t")])
    try:
        # Its mount is gone, its name not yet: a plain file.
        await asyncio.to_thread(run, "umount", "-l", str(going.path))
        assert going.path.exists()
        with caplog.at_level(logging.DEBUG):
            gone = Path(f"{there.path}-gone")
            assert await rules.apply([Change(path, transaction) for path in (going.path, gone, there.path)]) == []
            assert caplog.records == []
            # What the kernel refuses is said.
            refused = transaction_of([delete_chain(IPV4, "nowhere", "c")])
            assert await rules.apply([Change(there.path, refused)]) == [there.path]
        assert "rules in the namespace" in caplog.text
        listed = await asyncio.to_thread(run, "nsenter", f"--net={there.path}", "nft", "list", "tables")
        assert "table ip t" in listed
    finally:
        await rules.stop()
        there.close()
        going.close()
        await pool.remove([there.path, going.path])


def test_kernel_explains_what_it_refuses(lab: Lab) -> None:
    def work() -> str:
        netlink = NetlinkSocket()
        try:
            with pytest.raises(NetlinkError) as caught:
                netlink.execute([rtnetlink.configure_bridge_port("lo", isolated=False)])
            return str(caught.value)
        finally:
            netlink.close()

    assert lab.run(lab.host, work).startswith("configure bridge port lo: ")


def test_batches_larger_than_the_buffers_work(lab: Lab) -> None:
    def work() -> tuple[int, int]:
        netlink = NetlinkSocket()
        try:
            netlink.execute([rtnetlink.add_bridge("big", b"\x02\x42\x0a\x09\x00\x01", 1500), rtnetlink.set_up("big")])
            body = netlink.get(rtnetlink.get_link("big"))
            assert body is not None
            index = rtnetlink.parse_link(body).index
            first = IPv4Address("10.9.0.1")
            addresses = [IPv4Interface((first + number, 16)) for number in range(3000)]
            outcomes = netlink.try_all([rtnetlink.add_address(index, address) for address in addresses])
            routes = [rtnetlink.parse_route(answer) for answer in netlink.dump(rtnetlink.list_routes())]
            found = {route.destination.network_address for route in routes if route.destination.prefixlen == 32}
            return outcomes.count(None), len(found & {address.ip for address in addresses})
        finally:
            netlink.close()

    assert lab.run(lab.host, work) == (3000, 3000)
