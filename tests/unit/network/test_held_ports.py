from __future__ import annotations

import socket
from ipaddress import IPv4Address

import pytest

from enxame.network.held_ports import HeldPorts, PortTaken

LOOPBACK = IPv4Address("127.0.0.1")


@pytest.fixture
def held():
    held = HeldPorts()
    yield held
    held.close()


def server(*, reuse: bool = True) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    return listening


def bind(address: str, port: int, kind: int = socket.SOCK_STREAM) -> None:
    with socket.socket(socket.AF_INET, kind) as program:
        program.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        program.bind((address, port))
        if kind == socket.SOCK_STREAM:
            program.listen()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_held_port_is_refused_to_programs_until_it_is_given_back(held: HeldPorts, kind: int) -> None:
    port = held.hold("tcp" if kind == socket.SOCK_STREAM else "udp", None, 0)
    assert port.port > 0
    with pytest.raises(OSError, match="Address already in use"):
        bind("127.0.0.1", port.port, kind)
    held.give_back(port)
    held.give_back(port)
    bind("127.0.0.1", port.port, kind)


def test_port_of_a_program_is_told_in_the_kernels_words(held: HeldPorts) -> None:
    with server() as program:
        number = program.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"^listen tcp4 0\.0\.0\.0:{number}: bind: address already in use$"):
            held.hold("tcp", None, number)


def test_connections_that_linger_after_a_server_do_not_keep_its_port(held: HeldPorts) -> None:
    with server() as program:
        number = program.getsockname()[1]
        with socket.create_connection(("127.0.0.1", number)) as client:
            accepted, _ = program.accept()
            accepted.close()  # who closes first waits in TIME_WAIT
            assert client.recv(1) == b""
    assert held.hold("tcp", None, number).port == number


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        (None, None, True),
        (None, LOOPBACK, True),
        (LOOPBACK, None, True),
        (LOOPBACK, LOOPBACK, True),
        (LOOPBACK, IPv4Address("127.0.0.2"), False),
    ],
)
def test_our_own_ports_exclude_each_other_by_address(
    held: HeldPorts, first: IPv4Address | None, second: IPv4Address | None, refused: bool
) -> None:
    port = held.hold("tcp", first, 0).port
    if refused:
        with pytest.raises(
            PortTaken, match=rf"Bind for {second or '0.0.0.0'}:{port} failed: port is already allocated"
        ):
            held.hold("tcp", second, port)
    else:
        held.hold("tcp", second, port)


def test_protocols_do_not_exclude_each_other(held: HeldPorts) -> None:
    port = held.hold("tcp", LOOPBACK, 0).port
    assert held.hold("udp", LOOPBACK, port).port == port


def test_address_of_another_machine_is_refused(held: HeldPorts) -> None:
    with pytest.raises(PortTaken, match=r"listen tcp4 203\.0\.113\.7:18099: bind: cannot assign requested address"):
        held.hold("tcp", IPv4Address("203.0.113.7"), 18099)


def test_insisting_takes_note_of_a_thief_and_goes_on(held: HeldPorts, caplog: pytest.LogCaptureFixture) -> None:
    with server() as program:
        number = program.getsockname()[1]
        port = held.hold("tcp", None, number, insist=True)
        assert "taken by another program" in caplog.text
        with pytest.raises(PortTaken, match="port is already allocated"):
            held.hold("tcp", None, number)
        held.give_back(port)


def test_connections_to_a_held_port_are_refused_not_queued(held: HeldPorts) -> None:
    port = held.hold("tcp", LOOPBACK, 0).port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=2)
