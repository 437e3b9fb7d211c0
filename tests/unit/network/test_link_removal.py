from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from enxame.errors import EnxameError
from enxame.network import link_removal
from enxame.network.link_removal import LinkRemoval


class Kernel:
    """Removes links once it may, those of a call together; it knows none that is called ``stuck``."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.removed: list[list[str]] = []

    def delete(self, _: object, names: Sequence[str]) -> None:
        assert self.may.wait(30)
        self.removed.append(list(names))
        if "stuck" in names:
            raise EnxameError("cannot remove stuck")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(link_removal, "delete_links", made.delete)
    return made


@pytest.fixture
async def removal(kernel: Kernel) -> AsyncIterator[LinkRemoval]:
    made = LinkRemoval()
    await made.open()
    yield made
    await made.close()


async def test_removals_that_wait_go_together(kernel: Kernel, removal: LinkRemoval) -> None:
    first = asyncio.create_task(removal.remove(["a"]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # it is with the kernel
    others = [asyncio.create_task(removal.remove(names)) for names in (["b"], ["c", "d"])]
    await asyncio.sleep(0)
    assert not first.done()
    kernel.may.set()
    await asyncio.gather(first, *others)
    assert kernel.removed == [["a"], ["b", "c", "d"]]


async def test_a_refusal_reaches_those_who_waited_and_nobody_later(kernel: Kernel, removal: LinkRemoval) -> None:
    kernel.may.set()
    with pytest.raises(EnxameError, match="cannot remove stuck"):
        await removal.remove(["stuck"])
    await removal.remove(["a"])
    assert kernel.removed == [["stuck"], ["a"]]
