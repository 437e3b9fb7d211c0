"""Published ports over the host's IPv6 addresses."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from enxame.errors import EnxameError
from enxame.model.container import PortBinding
from tests.engine.network_lab import Lab
from tests.engine.network_machine import Machine, publish

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

HOST6 = "2001:db8::1"


def six(lab: Lab) -> None:
    lab.command(lab.host, f"ip addr add {HOST6}/64 dev up0 nodad")
    lab.command(lab.outside, "ip addr add 2001:db8::9/64 dev eth0 nodad")


async def test_published_port_answers_on_ipv6_addresses_and_loopback(machine: Machine) -> None:
    six(machine.lab)
    _, info = await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8080")))
    machine.serve(info.netns_path, 80, "web")
    assert (await machine.ask(machine.lab.outside, HOST6, 8080))[0] == "web"
    assert (await machine.ask(machine.lab.host, "::1", 8080))[0] == "web"
    await machine.stop()
    await machine.start()
    assert (await machine.ask(machine.lab.outside, HOST6, 8080))[0] == "web"


async def test_each_direction_ends_by_itself_and_nothing_is_lost(machine: Machine) -> None:
    _, info = await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8080")))
    listening = machine.lab.run(info.netns_path, lambda: socket.create_server(("0.0.0.0", 80)))
    sent = os.urandom(5_000_000)

    def answer() -> None:
        connection, _ = listening.accept()
        with connection, listening:
            received = b"".join(iter(lambda: connection.recv(65536), b""))
            connection.sendall(received)

    def ask() -> bytes:
        with socket.create_connection(("::1", 8080), timeout=10) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))

    answering = asyncio.create_task(asyncio.to_thread(answer))
    assert await asyncio.to_thread(machine.lab.run, machine.lab.host, ask) == sent
    await answering


async def test_port_of_a_host_program_on_ipv6_is_refused_and_nothing_is_held(machine: Machine) -> None:
    def take() -> socket.socket:
        return socket.create_server(("::", 8080), family=socket.AF_INET6)

    thief = machine.lab.run(machine.lab.host, take)
    with pytest.raises(EnxameError, match=r"listen tcp6 \[::\]:8080: bind: address already in use"):
        await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8080")))
    thief.close()
    held, _ = await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8080")))
    await machine.manager.release(held)
    with pytest.raises(OSError, match="refused"):
        await machine.ask(machine.lab.host, "::1", 8080)
