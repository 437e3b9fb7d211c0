"""What is asked of the kernel, and what comes of its refusals; a kernel played by a test takes notes."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Collection
from ipaddress import IPv4Address
from typing import ClassVar, TypeVar

import pytest

from enxame.network.rtnetlink import Address
from enxame.network.shortcuts import shortcuts
from enxame.network.shortcuts.bpf import BpfError
from enxame.network.shortcuts.shortcuts import Shortcuts

T = TypeVar("T")


class Kernel:
    """Plays the kernel's side. Of the class: what all of them were asked, and what is refused."""

    asked: ClassVar[list[object]] = []
    refused: ClassVar[set[str]] = set()
    obstacle: ClassVar[str] = ""

    def __init__(self) -> None:
        self.note("open")
        self.ring, self._writer = os.pipe()

    def note(self, what: str, *details: object) -> None:
        self.asked.append((what, *details) if details else what)
        if what in self.refused:
            raise BpfError(what, errno.EPERM)

    def close(self) -> None:
        os.close(self.ring)
        os.close(self._writer)
        self.note("close")

    def set_ports(self, ports: frozenset[int]) -> None:
        self.note("ports", *sorted(ports))

    def look_around(self, now: float) -> None:
        self.note("look")

    def take(self, now: float) -> bool:
        self.note("take")
        return False

    def forget(self, addresses: Collection[Address], now: float) -> None:
        self.note("forget", *sorted(addresses, key=str))


async def in_thread(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "KernelSide", Kernel)
    monkeypatch.setattr(shortcuts, "_remove_leftovers", lambda: Kernel.asked.append("leftovers"))
    monkeypatch.setattr(shortcuts, "_LOOK_AROUND", 0.01)
    monkeypatch.setattr(shortcuts, "_PAUSE", 0.001)
    Kernel.asked, Kernel.refused, Kernel.obstacle = [], set(), ""


def changes() -> list[object]:
    """Without what is done all the time."""
    return [item for item in Kernel.asked if item not in {"look", "take", "leftovers"}]


async def looked(times: int = 2) -> None:
    wanted = Kernel.asked.count("look") + times
    async with asyncio.timeout(10):
        while Kernel.asked.count("look") < wanted:
            await asyncio.sleep(0.001)


async def test_the_program_is_there_while_somebody_answers_a_port() -> None:
    made = Shortcuts(in_thread)
    await made.set_ports([])
    assert changes() == []
    await made.set_ports([80])
    await made.set_ports([80, 443])
    await looked()
    await made.set_ports([])
    await made.set_ports([8080])
    await made.stop()
    await made.stop()
    assert changes() == [
        "open",
        ("ports", 80),
        ("ports", 80, 443),
        "close",
        "open",
        ("ports", 8080),
        "close",
    ]
    assert Kernel.asked.count("leftovers") == 1


async def test_what_is_not_allowed_is_never_done_but_leftovers_go() -> None:
    made = Shortcuts(in_thread, allowed=False)
    await made.set_ports([80])
    await made.forget([IPv4Address("10.0.0.3")])
    await made.stop()
    assert Kernel.asked == ["leftovers"]


async def test_a_kernel_that_refuses_is_told_once_and_never_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    Kernel.refused = {"open"}
    made = Shortcuts(in_thread)
    for port in range(3):
        await made.set_ports([port])
        await made.forget([IPv4Address("10.0.0.3")])
    await made.stop()
    assert changes() == ["open"]
    (record,) = caplog.records
    assert record.getMessage() == "the routing mesh takes no shortcuts here: open: Operation not permitted"


async def test_to_forget_before_there_is_anything_is_nothing() -> None:
    made = Shortcuts(in_thread)
    await made.forget([IPv4Address("10.0.0.3")])
    await made.set_ports([80])
    await made.forget([])
    await made.forget([IPv4Address("10.0.0.3")])
    await made.stop()
    assert changes() == ["open", ("ports", 80), ("forget", IPv4Address("10.0.0.3")), "close"]


@pytest.mark.parametrize("refused", ["ports", "forget"])
async def test_a_kernel_that_refuses_later_ends_all_shortcuts_and_nothing_else(
    caplog: pytest.LogCaptureFixture, refused: str
) -> None:
    made = Shortcuts(in_thread)
    Kernel.refused = {refused}
    await made.set_ports([80])
    await made.forget([IPv4Address("10.0.0.3")])
    await made.set_ports([80])
    await made.stop()
    assert changes().count("close") == changes().count("open") == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"the routing mesh takes no shortcuts any more: {refused}: Operation not permitted"
    ]


async def test_trouble_that_lasts_is_told_once_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    Kernel.refused = {"take"}
    made = Shortcuts(in_thread)
    await made.set_ports([80])
    await looked(5)
    await made.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "shortcuts of the routing mesh: take: Operation not permitted"
    ]


async def test_why_there_are_none_is_told_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    made = Shortcuts(in_thread)
    await made.set_ports([80])
    for obstacle in ("", "there are rules", ""):
        Kernel.obstacle = obstacle
        await looked(3)
    await made.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "the routing mesh takes no shortcuts: there are rules",
        "the routing mesh takes shortcuts",
    ]
