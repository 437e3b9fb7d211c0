"""Busy connections through published service ports take a shortcut past the machine's packet filter, and nobody but it
notices.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from asyncio import to_thread
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from enxame.engine.sandbox import SandboxInfo
from enxame.model.container import EndpointIPAMConfig, EndpointSettings
from enxame.model.network import IPAMConfig, IPAMOptions, Network, NetworkSpec
from enxame.network.shortcuts import attaching, shortcuts
from enxame.network.shortcuts import kernel_side as kernel_sides
from enxame.network.shortcuts.bpf import BpfError
from tests.engine.busy_connections import (
    RESET,
    RESET_AT_CLOSE,
    Echo,
    Seen,
    exchange,
    flows,
    has_shortcut,
    kernel_side,
    make_busy,
    open_connection,
    ping,
    tracked,
)
from tests.engine.mesh_lab import ingress, set_ingress, tasks
from tests.engine.network_lab import HOST, OUTSIDE, connect, eventually
from tests.engine.network_machine import Machine
from tests.engine.test_network_ipv6 import HOST6, OUTSIDE6, six

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine looks around all the time."""
    monkeypatch.setattr(shortcuts, "_LOOK_AROUND", 0.1)


async def published(machine: Machine, *servers: Echo, count: int) -> None:
    await set_ingress(machine, ingress(8080, *(f"10.0.0.{number + 3}" for number in range(count)), target=7))
    if kernel_side(machine) is None:
        pytest.skip("this kernel lets no eBPF program look at packets")
    assert servers


@pytest.fixture
async def echo(machine: Machine) -> AsyncIterator[Echo]:
    """A task's server, published at port 8080."""
    ((_, info),) = await tasks(machine, 1)
    server = Echo(machine.lab, info.netns_path, 7)
    try:
        await published(machine, server, count=1)
        yield server
    finally:
        await to_thread(server.close)


@pytest.fixture
async def two_echoes(machine: Machine) -> AsyncIterator[tuple[Echo, Echo]]:
    """Two tasks' servers, of which the first is published at port 8080."""
    made = await tasks(machine, 2)
    one, two = (Echo(machine.lab, info.netns_path, 7) for _, info in made)
    try:
        await published(machine, one, count=1)
        yield one, two
    finally:
        await to_thread(one.close)
        await to_thread(two.close)


async def connected(machine: Machine, **how: object) -> socket.socket:
    """A connection from outside, which takes a shortcut."""
    connection = await to_thread(partial(open_connection, machine, **how))
    await to_thread(make_busy, machine, connection)
    return connection


async def until(condition: Callable[[], bool], what: str, timeout: float = 5) -> None:
    assert await to_thread(eventually, condition, timeout), what


async def test_a_busy_connection_passes_without_the_filter_and_arrives_byte_for_byte(
    machine: Machine, echo: Echo
) -> None:
    seen = Seen(machine)
    with await connected(machine) as connection:
        with seen.at_most(400):
            await to_thread(ping, connection, 2000)
            for piece in (1 << 20, 1000):
                await to_thread(exchange, connection, 10_000_000, piece)
        assert echo.clients == {OUTSIDE}


async def ipv6_task(machine: Machine) -> SandboxInfo:
    six(machine.lab)
    subnets = [
        IPAMConfig(subnet="10.0.0.0/24", gateway="10.0.0.1"),
        IPAMConfig(subnet="fd00:5::/64", gateway="fd00:5::1"),
    ]
    network = Network(
        id=f"{'ingress':0<25}",
        spec=NetworkSpec(name="ingress", ingress=True, ipv6_enabled=True),
        ipam_options=IPAMOptions(configs=subnets),
    )
    addresses = EndpointIPAMConfig(ipv4_address="10.0.0.3", ipv6_address="fd00:5::3")
    with machine.lab.within_host():
        await machine.manager.ensure_swarm_network(network)
    _, info = await machine.connect(
        endpoints={network.id: EndpointSettings(ipam_config=addresses)}, waits_to_serve=True
    )
    return info


async def test_a_busy_connection_over_ipv6_passes_without_the_filter(machine: Machine) -> None:
    info = await ipv6_task(machine)
    server = Echo(machine.lab, info.netns_path, 7, six=True)
    seen = Seen(machine)
    try:
        await set_ingress(machine, ingress(8080, "10.0.0.3", "fd00:5::3", target=7))
        with await connected(machine, address=HOST6) as connection:
            with seen.at_most(400):
                await to_thread(ping, connection, 2000)
                for piece in (1 << 20, 1000):
                    await to_thread(exchange, connection, 10_000_000, piece)
            assert server.clients == {OUTSIDE6}
    finally:
        await to_thread(server.close)


async def test_the_end_is_tracked_and_the_clients_port_may_be_used_for_another_task_at_once(
    machine: Machine, two_echoes: tuple[Echo, Echo], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_sides, "_MOURNING", 0.1)
    _, two = two_echoes
    for _ in range(3):
        with await connected(machine, source=40_100) as connection:
            await to_thread(exchange, connection, 3_000_000, 1 << 16)
            await set_ingress(machine, ingress(8080, "10.0.0.3", "10.0.0.4", target=7))
            connection.shutdown(socket.SHUT_WR)
            assert await to_thread(connection.recv, 1) == b""
        await until(lambda: "ESTABLISHED" not in tracked(machine, 40_100), "tracking knows that it has ended")
        await set_ingress(machine, ingress(8080, "10.0.0.4", target=7))
        before = len(two.connections)
        machine.lab.command(machine.lab.outside, "sysctl -qw net.ipv4.tcp_tw_reuse=1")
        with await to_thread(partial(open_connection, machine, source=40_100)) as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            await to_thread(ping, again, 1)
            assert len(two.connections) == before + 1
        await set_ingress(machine, ingress(8080, "10.0.0.3", target=7))


async def test_resets_end_connections_whoever_sends_them(machine: Machine, echo: Echo) -> None:
    machine.lab.command(machine.lab.host, "sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_close=1")
    with await connected(machine) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        port = connection.getsockname()[1]
        await to_thread(exchange, connection, 3_000_000, 1 << 16)
        (accepted,) = echo.connections
    await until(lambda: accepted.fileno() < 0 or _has_ended(accepted), "the task knows")
    await until(lambda: not tracked(machine, port), "tracking forgets it soon")
    with await connected(machine) as connection:
        await to_thread(exchange, connection, 3_000_000, 1 << 16)
        await to_thread(connection.sendall, RESET)
        with pytest.raises(ConnectionError):
            await to_thread(connection.recv, 1)
        port = connection.getsockname()[1]
    await until(lambda: not tracked(machine, port), "tracking forgets it soon")


def _has_ended(connection: socket.socket) -> bool:
    # The first byte of struct tcp_info is the state.
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1


async def test_a_connection_to_a_task_that_is_gone_is_reset_with_its_next_packet(
    machine: Machine, two_echoes: tuple[Echo, Echo]
) -> None:
    with await connected(machine) as connection:
        await set_ingress(machine, ingress(8080, "10.0.0.4", target=7))
        assert not has_shortcut(machine, connection)
        with pytest.raises(ConnectionError):
            await to_thread(ping, connection, 2)
        assert two_echoes


async def test_who_is_gone_gets_no_shortcut_from_a_connection_that_is_about_to_be_forgotten(
    machine: Machine, echo: Echo
) -> None:
    """Between the moment in which shortcuts forget a task and the one in which tracking does, packets go on."""
    with await connected(machine) as connection:
        await machine.manager._dataplane._shortcuts.forget([flows(machine)[0].backend.address])
        await to_thread(ping, connection, 3000)
        assert not has_shortcut(machine, connection)
        assert echo.clients == {OUTSIDE}


async def test_rules_of_users_see_every_packet_soon_and_only_while_they_are_there(machine: Machine, echo: Echo) -> None:
    lab, seen = machine.lab, Seen(machine)
    with await connected(machine) as connection:
        lab.command(lab.host, "nft add rule inet enxame-user forward tcp dport 9999 drop")
        await until(lambda: not flows(machine), "shortcuts are dropped")
        before = seen.packets
        await to_thread(ping, connection, 1000)
        assert seen.packets - before >= 2000
        lab.command(lab.host, "nft flush chain inet enxame-user forward")
        await to_thread(make_busy, machine, connection)
        lab.command(lab.host, "nft add rule inet enxame-user forward meta l4proto tcp ct original proto-dst 8080 drop")
        connection.settimeout(1)

        def cut() -> bool:
            try:
                ping(connection, 1)
            except TimeoutError:
                return True
            return False

        await until(cut, "a rule that drops takes effect on a busy connection")
        assert echo.clients


@pytest.mark.parametrize("rule", ["fwmark 7", "fwmark 0x10/0xf0"])
async def test_no_shortcuts_while_routes_depend_on_marks_of_the_filter(machine: Machine, echo: Echo, rule: str) -> None:
    lab = machine.lab
    with await connected(machine) as connection:
        lab.command(lab.host, f"ip rule add {rule} lookup 100")
        await until(lambda: not flows(machine), "shortcuts are dropped")
        lab.command(lab.host, f"ip rule del {rule} lookup 100")
        await to_thread(make_busy, machine, connection)
        assert echo.clients


async def test_half_of_a_connection_goes_on_when_the_other_has_ended(machine: Machine) -> None:
    ((_, info),) = await tasks(machine, 1)
    words = os.urandom(10_000_000)
    server = Echo(machine.lab, info.netns_path, 7, last_words=words)
    try:
        await published(machine, server, count=1)
        with await connected(machine) as connection:
            connection.shutdown(socket.SHUT_WR)

            def listen() -> bytes:
                with connection.makefile("rb") as file:
                    return file.read()

            assert await to_thread(listen) == words
    finally:
        await to_thread(server.close)


async def test_connections_change_between_both_ways_and_lose_nothing(
    machine: Machine, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_sides, "LONGEST", 0.05)
    with await connected(machine) as connection:
        kernel = kernel_side(machine)
        assert kernel is not None
        ways: set[bool] = set()
        for _ in range(10):
            await to_thread(exchange, connection, 3_000_000, 1 << 16)
            ways.add(has_shortcut(machine, connection))
            await until(lambda: not flows(machine), "it goes the long way")
            ways.add(has_shortcut(machine, connection))
            await to_thread(make_busy, machine, connection)
        assert ways >= {False}
        assert echo.clients == {OUTSIDE}


def patience(machine: Machine, connection: socket.socket) -> int:
    """Seconds that tracking waits for the next packet."""
    return int(tracked(machine, connection).split()[2])


async def test_tracking_waits_for_an_idle_connection_as_long_as_ever(machine: Machine, echo: Echo) -> None:
    """The kernel gives up after five minutes what seems to wait for an acknowledgement."""
    with await connected(machine) as connection:
        for size in (1, 1_000_000):
            await to_thread(exchange, connection, size, 1 << 16)
            await until(lambda: patience(machine, connection) > 400_000, "tracking has patience")
        await set_ingress(machine)
        assert kernel_side(machine) is None
        await published(machine, echo, count=1)


async def test_connections_outlive_the_daemon_on_the_way_through_the_filter(machine: Machine, echo: Echo) -> None:
    seen = Seen(machine)
    with await connected(machine) as connection:
        with seen.at_most(400):
            await to_thread(exchange, connection, 60_000_000, 1 << 20)
        await machine.stop()
        before = seen.packets
        await to_thread(exchange, connection, 1_000_000, 1 << 16)
        await to_thread(ping, connection, 100)
        assert seen.packets - before > 200
        assert patience(machine, connection) > 400_000
        assert "ESTABLISHED" in tracked(machine, connection)
        await machine.start()
        await published(machine, echo, count=1)
        await to_thread(make_busy, machine, connection)
        await to_thread(exchange, connection, 1_000_000, 1 << 16)
        assert echo.clients == {OUTSIDE}


def ebpf(machine: Machine) -> list[str]:
    """Descriptors of eBPF objects that this process has."""
    assert machine
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return sorted(name for name in found if "bpf" in name)


async def test_without_published_ports_there_is_no_program_and_twenty_rounds_leak_nothing(
    machine: Machine,
) -> None:
    await tasks(machine, 1)
    assert (kernel_side(machine), ebpf(machine)) == (None, [])
    await published(machine, *[object()], count=1)  # type: ignore[list-item]
    assert "anon_inode:bpf-prog" in ebpf(machine)
    await set_ingress(machine)
    await machine.full_pool()
    opened = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        await set_ingress(machine, ingress(8080, "10.0.0.3", target=7))
        await set_ingress(machine)
    assert (kernel_side(machine), ebpf(machine)) == (None, [])
    await machine.full_pool()
    assert len(os.listdir("/proc/self/fd")) == opened


async def test_a_link_that_comes_later_gets_the_program_and_gives_it_back(machine: Machine, echo: Echo) -> None:
    lab, seen = machine.lab, Seen(machine)
    await until(lambda: ebpf(machine).count("anon_inode:bpf_link") > 0, "the program is attached")
    before = ebpf(machine)
    second_link(machine)
    await until(lambda: len(ebpf(machine)) == len(before) + 1, "the program is attached to the link")
    with await connected(machine, address="198.51.100.1") as connection:
        with seen.at_most(400):
            await to_thread(ping, connection, 1000)
        assert echo.clients == {"198.51.100.9"}
        lab.command(lab.host, "ip link del up1")
        await until(lambda: ebpf(machine) == before, "the link's share is freed")


def second_link(machine: Machine) -> None:
    lab = machine.lab
    lab.command(lab.host, f"ip link add up1 type veth peer name eth1 netns /proc/{os.getpid()}/fd/{lab.outside}")
    lab.command(lab.host, "ip addr add 198.51.100.1/24 dev up1")
    lab.command(lab.host, "ip link set up1 up")
    lab.command(lab.outside, "ip addr add 198.51.100.9/24 dev eth1")
    lab.command(lab.outside, "ip link set eth1 up")


def sent_by(machine: Machine, link: str) -> int:
    def work() -> int:
        with open("/proc/thread-self/net/dev") as file:
            (line,) = [line for line in file if line.strip().startswith(f"{link}:")]
        return int(line.split(":")[1].split()[9])

    return machine.lab.run(machine.lab.host, work)


async def test_answers_leave_where_rules_for_the_tasks_address_send_them(machine: Machine, echo: Echo) -> None:
    lab = machine.lab
    second_link(machine)
    lab.command(lab.outside, "sysctl -qw net.ipv4.conf.all.rp_filter=0")
    lab.command(lab.outside, "sysctl -qw net.ipv4.conf.eth1.rp_filter=0")
    lab.command(lab.host, f"ip route add {OUTSIDE} via 198.51.100.9 dev up1 table 100")
    lab.command(lab.host, f"ip rule add from 10.0.0.0/24 to {OUTSIDE} sport 7 lookup 100")
    with await connected(machine) as connection:
        before = sent_by(machine, "up0"), sent_by(machine, "up1")
        await to_thread(ping, connection, 1000)
        after = sent_by(machine, "up0"), sent_by(machine, "up1")
        assert after[1] - before[1] >= 1000
        assert after[0] - before[0] < 100
        assert echo.clients == {OUTSIDE}


async def test_a_packet_at_the_end_of_its_hops_is_answered(machine: Machine, echo: Echo) -> None:
    with await connected(machine) as connection:
        connection.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
        connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        with pytest.raises(OSError, match="No route to host"):
            await to_thread(ping, connection, 1)
        assert echo.clients == {OUTSIDE}


async def test_packets_too_large_for_the_way_are_told_so(machine: Machine, echo: Echo) -> None:
    lab = machine.lab
    ip_mtu = 14
    with await connected(machine) as connection:
        await to_thread(exchange, connection, 1_000_000, 1 << 16)
        assert connection.getsockopt(socket.IPPROTO_IP, ip_mtu) == 1500
        (line,) = lab.command(lab.host, "ip route show 10.0.0.0/24").splitlines()
        lab.command(lab.host, f"ip route change {line.strip()} mtu lock 1280")
        await to_thread(exchange, connection, 1_000_000, 1 << 16)
        assert connection.getsockopt(socket.IPPROTO_IP, ip_mtu) == 1280
        assert has_shortcut(machine, connection)
        assert echo.clients == {OUTSIDE}


async def test_connections_whose_source_is_hidden_take_none_and_work(machine: Machine, echo: Echo) -> None:
    task = next(iter(machine.manager._sandboxes.records)).info.netns_path
    _, other = await machine.connect()
    ways: list[tuple[int | str, str]] = [
        (machine.lab.host, "127.0.0.1"),
        (machine.lab.host, HOST),
        (task, HOST),
        (other.netns_path, "172.17.0.1"),
    ]
    for namespace, address in ways:
        connection = await to_thread(machine.lab.run, namespace, partial(connect, address, 8080))
        with connection:
            await to_thread(ping, connection, 1500)
            await to_thread(exchange, connection, 1_000_000, 1 << 16)
            if namespace != other.netns_path:
                assert not has_shortcut(machine, connection)
    assert len(echo.connections) == len(ways)


async def test_many_connections_that_become_busy_at_once_all_take_theirs(machine: Machine, echo: Echo) -> None:
    count = 50
    connections = [await to_thread(open_connection, machine) for _ in range(count)]
    try:

        def all_busy() -> bool:
            for connection in connections:
                if not has_shortcut(machine, connection):
                    ping(connection, 20)
            return len(flows(machine)) >= count

        await until(all_busy, "all take shortcuts", 20)
        assert {flow.client.port for flow in flows(machine)} == {one.getsockname()[1] for one in connections}
        assert echo.clients == {OUTSIDE}
    finally:
        for connection in connections:
            connection.close()


def filters(machine: Machine) -> list[str]:
    """Numbers of our programs at a link."""
    shown = machine.lab.command(machine.lab.host, "tc filter show dev up0 ingress")
    return re.findall(r"enxame-mesh direct-action .* id (\d+)", shown)


async def test_older_kernels_have_filters_of_which_a_killed_daemon_leaves_none_for_long(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_old(_: object, link: int) -> None:
        raise BpfError(f"attach to {link}", errno.EINVAL)

    monkeypatch.setattr(attaching.TcxLinks, "attach", too_old)
    ((_, info),) = await tasks(machine, 1)
    seen = Seen(machine)
    server = Echo(machine.lab, info.netns_path, 7)
    try:
        await published(machine, server, count=1)
        with await connected(machine) as connection:
            with seen.at_most(400):
                await to_thread(ping, connection, 1000)
            assert len(filters(machine)) == 1
            with monkeypatch.context() as killed:
                killed.setattr(attaching.Filters, "detach", lambda *_: None)
                await machine.stop()
            (left,) = filters(machine)
            await to_thread(exchange, connection, 1_000_000, 1 << 16)
            await machine.start()
            await published(machine, server, count=1)
            await to_thread(make_busy, machine, connection)
            (ours,) = filters(machine)
            assert ours != left
            await machine.stop()
            assert filters(machine) == []
            assert "clsact" not in machine.lab.command(machine.lab.host, "tc qdisc show dev up0")
            await to_thread(exchange, connection, 1_000_000, 1 << 16)
            await machine.start()
    finally:
        await to_thread(server.close)
