"""What a manager has of a swarm that lost its quorum, made a state of its own again."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path
from typing import Final

from enxame.errors import EnxameError
from enxame.membership.member_plan import MemberPlan
from enxame.store import pointer as pointers
from enxame.store.move import clear_leftovers
from enxame.store.pointer import Pointer
from enxame.store.sqlite import write_database

__all__ = ["bring_home"]

log = logging.getLogger(__name__)

_START_DEADLINE: Final = 30.0


async def bring_home(directory: Path, plan: MemberPlan, *, gap: int = 0) -> Pointer:
    """Take the state out of this manager's etcd member, without the others, into SQLite; returns where it is. Nothing
    to do when it is there. Nothing else may use the state meanwhile; records are taken as they are stored. Revisions
    go on ``gap`` later: the others may have had commits that this one has not.

    Raises:
        EnxameError: there is none, or the member does not start; nothing has changed.
        OSError: the disk refused; nothing has changed.
    """
    before = pointers.read(directory)
    await clear_leftovers(directory)
    if before.kind == "sqlite":
        return before
    if before.kind != "etcd":
        raise EnxameError("this manager has not got the swarm's state yet")
    from enxame.store.etcd_node import EtcdNode

    # On a copy: a member that was started like this has forgotten the others.
    copy = directory / before.next("etcd").place
    node = EtcdNode(plan.settings(copy, None), gained=lambda _epoch: None, lost=lambda: None)
    try:
        await asyncio.to_thread(shutil.copytree, directory / before.place, copy)
        await node.start(force_new_cluster=True, timeout=_START_DEADLINE)
        await node.voting()
        revision, records = await node.backend.load()
    finally:
        await node.stop()
        await asyncio.to_thread(shutil.rmtree, copy, ignore_errors=True)
    target = before.next("sqlite")
    await asyncio.to_thread(write_database, directory / target.place, revision + gap, records)
    await asyncio.to_thread(pointers.write, directory, target)
    await clear_leftovers(directory)
    log.warning("the swarm's state, as this manager had it at revision %d, is its own now", revision)
    return target
