"""Calls to one etcd member: ranges, transactions, watches, leases, members.

Every call has a deadline; one that fails was refused (nothing happened) or is in doubt.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from enxame.store.etcd_channel import END_OF_STREAM, EtcdChannel, translated, unless
from enxame.store.etcd_files import TlsFiles
from enxame.store.etcd_grpc import kv_pb2, rpc_pb2
from enxame.store.etcd_messages import (
    Compacted,
    Delete,
    EtcdUnavailable,
    Get,
    Guard,
    KeyValue,
    Member,
    Page,
    Put,
    Status,
    TxnResult,
    Watched,
)

__all__ = ["EtcdClient"]


class EtcdClient:
    """A connection to the member at ``endpoint`` (``host:port``). Use inside a running loop; close it."""

    def __init__(self, endpoint: str, tls: TlsFiles) -> None:
        self._channel = EtcdChannel(endpoint, tls)

    @property
    def endpoint(self) -> str:
        """Whom it talks to: ``host:port``."""
        return self._channel.endpoint

    async def renew(self) -> None:
        """Read the certificate files again and connect anew; calls under way may end, watches begin again."""
        await self._channel.renew()

    async def close(self) -> None:
        """End all calls. Idempotent."""
        await self._channel.close()

    # -- keys

    async def range(
        self,
        key: bytes,
        *,
        timeout: float,
        end: bytes | None = None,
        limit: int = 0,
        revision: int = 0,
        serializable: bool = False,
    ) -> Page:
        """Keys from ``key`` up to ``end`` (none: the one key), as of ``revision`` (0: now).

        ``serializable`` answers from this member alone, also without a quorum, perhaps of the past.

        Raises:
            Compacted: the revision is no longer kept.
        """
        request = rpc_pb2.RangeRequest(
            key=key, range_end=end or b"", limit=limit, revision=revision, serializable=serializable
        )
        answer = await self._channel.call(self._channel.kv.Range, request, timeout)
        items = [KeyValue(kv.key, kv.value, kv.mod_revision, kv.lease) for kv in answer.kvs]
        return Page(answer.header.revision, items, answer.more)

    async def get(
        self, key: bytes, *, timeout: float, revision: int = 0, serializable: bool = False
    ) -> KeyValue | None:
        """One key, or None."""
        page = await self.range(key, timeout=timeout, revision=revision, serializable=serializable)
        return page.items[0] if page.items else None

    async def txn(
        self,
        guards: Sequence[Guard],
        then: Sequence[Put | Delete | Get],
        otherwise: Sequence[Put | Delete | Get] = (),
        *,
        timeout: float,
    ) -> TxnResult:
        """All of ``then`` when every guard holds, else all of ``otherwise``; at once, at one revision."""
        request = rpc_pb2.TxnRequest(
            compare=[
                rpc_pb2.Compare(
                    result=rpc_pb2.Compare.EQUAL,
                    target=rpc_pb2.Compare.MOD,
                    key=guard.key,
                    mod_revision=guard.mod_revision,
                )
                for guard in guards
            ],
            success=[_operation(op) for op in then],
            failure=[_operation(op) for op in otherwise],
        )
        answer = await self._channel.call(self._channel.kv.Txn, request, timeout)
        found: list[KeyValue | None] = []
        for response in answer.responses:
            if response.HasField("response_range"):
                kvs = response.response_range.kvs
                found.append(KeyValue(kvs[0].key, kvs[0].value, kvs[0].mod_revision, kvs[0].lease) if kvs else None)
        return TxnResult(answer.succeeded, answer.header.revision, found)

    async def watch(self, prefix: bytes, start: int) -> AsyncGenerator[list[Watched], None]:
        """Changes of keys that begin so, from revision ``start`` on, in order; those of a revision in one list.

        Raises:
            Compacted: ``start`` is no longer kept.
            EtcdUnavailable: the stream broke; begin again after the last revision that came.
        """
        call: Any = None
        create = rpc_pb2.WatchCreateRequest(key=prefix, range_end=_prefix_end(prefix), start_revision=start)
        ended = self._channel.ended()
        with translated():
            try:
                call = self._channel.watch.Watch()
                await unless(ended, call.write(rpc_pb2.WatchRequest(create_request=create)))
                while True:
                    answer = await unless(ended, call.read())
                    if answer is END_OF_STREAM:
                        raise EtcdUnavailable("etcd ended the watch")
                    if answer.compact_revision:
                        raise Compacted(f"changes up to revision {answer.compact_revision} are no longer kept")
                    if answer.canceled:
                        raise EtcdUnavailable(f"etcd ended the watch: {answer.cancel_reason}")
                    if answer.events:
                        delete = kv_pb2.Event.DELETE
                        yield [
                            Watched(e.kv.key, None if e.type == delete else e.kv.value, e.kv.mod_revision)
                            for e in answer.events
                        ]
            finally:
                ended.cancel()
                if call is not None:
                    call.cancel()

    async def compact(self, revision: int, *, timeout: float) -> None:
        """Forget what was before this revision."""
        await self._channel.call(
            self._channel.kv.Compact, rpc_pb2.CompactionRequest(revision=revision, physical=True), timeout
        )

    # -- leases

    async def lease_grant(self, ttl: int, *, timeout: float) -> int:
        """A new lease of ``ttl`` seconds; returns its id."""
        answer = await self._channel.call(self._channel.lease.LeaseGrant, rpc_pb2.LeaseGrantRequest(TTL=ttl), timeout)
        return int(answer.ID)

    async def lease_keep(self, lease: int, *, timeout: float) -> bool:
        """Let the lease begin anew. False when it is over."""
        call: Any = None
        with translated():
            try:
                call = self._channel.lease.LeaseKeepAlive(timeout=timeout)
                await call.write(rpc_pb2.LeaseKeepAliveRequest(ID=lease))
                answer = await call.read()
            finally:
                if call is not None:
                    call.cancel()
        return answer is not END_OF_STREAM and answer.TTL > 0

    # -- members

    async def status(self, *, timeout: float) -> Status:
        """What this member says of itself; asks no other."""
        answer = await self._channel.call(self._channel.maintenance.Status, rpc_pb2.StatusRequest(), timeout)
        header = answer.header
        return Status(
            header.member_id, answer.leader, answer.raftTerm, header.revision, answer.version, answer.isLearner
        )

    async def members(self, *, timeout: float) -> list[Member]:
        """The members of the cluster."""
        return _members(
            (await self._channel.call(self._channel.cluster.MemberList, rpc_pb2.MemberListRequest(), timeout)).members
        )

    async def member_add(self, peer_url: str, *, learner: bool, timeout: float) -> tuple[int, list[Member]]:
        """Add a member that is not running yet; returns its id and all members."""
        request = rpc_pb2.MemberAddRequest(peerURLs=[peer_url], isLearner=learner)
        answer = await self._channel.call(self._channel.cluster.MemberAdd, request, timeout)
        return answer.member.ID, _members(answer.members)

    async def member_promote(self, member: int, *, timeout: float) -> None:
        """Let a learner vote."""
        await self._channel.call(self._channel.cluster.MemberPromote, rpc_pb2.MemberPromoteRequest(ID=member), timeout)

    async def member_update(self, member: int, peer_url: str, *, timeout: float) -> None:
        """A member's peers find it at another address now."""
        request = rpc_pb2.MemberUpdateRequest(ID=member, peerURLs=[peer_url])
        await self._channel.call(self._channel.cluster.MemberUpdate, request, timeout)

    async def member_remove(self, member: int, *, timeout: float) -> None:
        """Remove a member for good: its data directory is of no use any more."""
        await self._channel.call(self._channel.cluster.MemberRemove, rpc_pb2.MemberRemoveRequest(ID=member), timeout)

    async def move_leader(self, member: int, *, timeout: float) -> None:
        """Hand Raft leadership to another voter; only the leader's own member does it."""
        await self._channel.call(
            self._channel.maintenance.MoveLeader, rpc_pb2.MoveLeaderRequest(targetID=member), timeout
        )


def _prefix_end(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _operation(op: Put | Delete | Get) -> Any:
    if isinstance(op, Put):
        return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=op.key, value=op.value, lease=op.lease))
    if isinstance(op, Delete):
        end = _prefix_end(op.key) if op.prefix else b""
        return rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=op.key, range_end=end))
    return rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=op.key))


def _members(members: Any) -> list[Member]:
    return [Member(m.ID, m.name, tuple(m.peerURLs), m.isLearner) for m in members]
