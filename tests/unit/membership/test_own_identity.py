"""A node's certificate and roots, changed from several sides at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from enxame.errors import Unavailable
from enxame.membership import certificate_files
from enxame.membership.own_identity import OwnIdentity
from enxame.security import ca
from enxame.transport.identity import Identity

NOW = datetime.now(UTC)
OLD, NEW = ca.create_root(NOW), ca.create_root(NOW)


def pair(root: ca.KeyPair) -> ca.KeyPair:
    return ca.issue_node_certificate(
        root, node_id="n1", role="worker", cluster_id="c1", expiry=timedelta(days=1), now=NOW
    )


@pytest.fixture
async def own(tmp_path) -> OwnIdentity:
    first = pair(OLD)
    certificate_files.write(tmp_path, Identity(first.cert, first.key, OLD.cert))
    made = OwnIdentity(tmp_path)
    assert await made.load()
    return made


async def test_a_certificate_is_due_when_it_is_not_one_of_the_root_to_come(own) -> None:
    assert not own.is_due
    assert await own.trust(OLD.cert, NEW.cert)
    assert not await own.trust(OLD.cert, NEW.cert), "nothing to do"
    assert own.is_due
    renewed = pair(NEW)
    await own.certified(renewed.cert, renewed.key, OLD.cert, NEW.cert)
    assert not own.is_due
    assert own.shown.serial == f"{ca.serial_number(renewed.cert):x}"


async def test_a_certificate_that_comes_late_does_not_bring_back_roots_that_are_gone(own, tmp_path) -> None:
    await own.trust(OLD.cert, NEW.cert)
    renewed = pair(NEW)
    # Asked for while both were believed; the answer comes after the end of the rotation.
    await asyncio.gather(own.trust(NEW.cert, ""), own.certified(renewed.cert, renewed.key, OLD.cert, NEW.cert))
    known = own.identity
    assert (known.certificate, known.root, known.next_root) == (renewed.cert, NEW.cert, "")
    assert certificate_files.read(tmp_path) == known


async def test_whoever_waits_hears_of_every_change(own) -> None:
    waiting = asyncio.create_task(own.next_change())
    await asyncio.sleep(0)
    await own.trust(OLD.cert, NEW.cert)
    async with asyncio.timeout(5):
        await waiting


async def test_without_a_certificate_there_is_nothing_to_show(tmp_path) -> None:
    made = OwnIdentity(tmp_path)
    assert await made.load() is None
    with pytest.raises(Unavailable):
        _ = made.client_context
    assert made.shown.serial == ""
