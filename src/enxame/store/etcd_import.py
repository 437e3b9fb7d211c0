"""Putting a whole state into an empty etcd cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from enxame.errors import Unavailable
from enxame.store import etcd_records as records
from enxame.store.backend import Record
from enxame.store.etcd_client import EtcdClient
from enxame.store.etcd_messages import Delete, EtcdRefused, EtcdUnavailable, Guard, Put

__all__ = ["import_state"]

_TIMEOUT: Final = 10.0
_BATCH_OPS: Final = 1000
_BATCH_BYTES: Final = 1 << 20


async def import_state(client: EtcdClient, revision: int, state: Sequence[Record]) -> None:
    """Write all records, with the revisions that they have, and last the base: without it there is no state.

    Leftovers of an import that was cut off are removed first.

    Raises:
        Unavailable: the cluster has a state already, or refuses.
    """
    try:
        begun = await client.txn([Guard(records.BASE, 0)], [Delete(records.PREFIX, prefix=True)], timeout=_TIMEOUT)
        if not begun.succeeded:
            raise Unavailable("this etcd holds a swarm's state already")
        for batch in records.batches(state, ops=_BATCH_OPS, size=_BATCH_BYTES):
            puts = [Put(records.object_key(r.kind, r.id), records.encode_value(r.data, r.revision)) for r in batch]
            await client.txn([Guard(records.BASE, 0)], puts, timeout=_TIMEOUT)
        done = await client.txn(
            [Guard(records.BASE, 0)], [Put(records.BASE, records.encode_base(revision))], timeout=_TIMEOUT
        )
    except (EtcdRefused, EtcdUnavailable) as error:
        raise Unavailable(f"the swarm's state could not be written to etcd: {error.message}") from error
    if not done.succeeded:
        raise Unavailable("somebody else writes to this etcd")
