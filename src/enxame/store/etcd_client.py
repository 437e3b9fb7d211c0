"""Calls to one etcd member over mutual TLS: ranges, transactions, watches, leases, members.

Importing this module loads gRPC (some 30 MB): only a manager that has an etcd member does. The messages and stubs are
those that ``aetcd`` carries. Every call has a deadline; one that fails was refused (nothing happened) or is in doubt.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any, Final, NamedTuple

# Children are started with vfork and exec alone; gRPC's own fork handlers would only warn.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio
from aetcd.rpc import kv_pb2, rpc_pb2, rpc_pb2_grpc

from enxame.errors import EnxameError
from enxame.store.etcd_files import TlsFiles

__all__ = [
    "Compacted",
    "Delete",
    "EtcdClient",
    "EtcdRefused",
    "EtcdUnavailable",
    "Get",
    "Guard",
    "KeyValue",
    "Member",
    "Page",
    "Put",
    "Status",
    "TxnResult",
    "Watched",
]

#: Managers' certificates carry this name; workers' do not.
MANAGER_NAME: Final = "swarm-manager"

#: Longest wait for calls of a connection that another one takes the place of: seconds.
_LAST_CALLS: Final = 5.0
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)
_REFUSALS: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class EtcdUnavailable(EnxameError):
    """No answer: whether the call had an effect is not known."""

    status = 503


class EtcdRefused(EnxameError):
    """etcd said no; the call had no effect."""

    status = 503


class Compacted(EtcdRefused):
    """The revision that was asked for is no longer kept."""


class KeyValue(NamedTuple):
    """A key as stored. ``mod_revision`` is that of the last change; ``lease`` 0 when it has none."""

    key: bytes
    value: bytes
    mod_revision: int
    lease: int = 0


class Guard(NamedTuple):
    """A transaction's condition: the key was changed last at this revision (0: it does not exist)."""

    key: bytes
    mod_revision: int


class Put(NamedTuple):
    """Set a key."""

    key: bytes
    value: bytes
    lease: int = 0


class Delete(NamedTuple):
    """Remove a key, or all keys that begin so."""

    key: bytes
    prefix: bool = False


class Get(NamedTuple):
    """Read a key inside a transaction."""

    key: bytes


class TxnResult(NamedTuple):
    """``found`` has what each :class:`Get` of the branch that ran read."""

    succeeded: bool
    revision: int
    found: list[KeyValue | None]


class Page(NamedTuple):
    """Part of a range, as of ``revision``; ``more`` when keys follow after the last."""

    revision: int
    items: list[KeyValue]
    more: bool


class Watched(NamedTuple):
    """A changed key; ``value`` is None when it was deleted."""

    key: bytes
    value: bytes | None
    revision: int


class Status(NamedTuple):
    """What a member says of itself. ``leader`` is the Raft leader's member id, 0 when it knows none."""

    member: int
    leader: int
    term: int
    revision: int
    version: str
    learner: bool


class Member(NamedTuple):
    """A member of the cluster; the name is empty until it has started once."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    learner: bool


#: What gRPC raises in calls whose channel was closed while they were made.
_CHANNEL_ENDED: Final = (grpc.aio.UsageError, grpc.aio.InternalError, asyncio.InvalidStateError)


def _cancelled() -> bool:
    """Whether a cancellation is meant for the running task: gRPC also raises one in calls whose channel is closed."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _prefix_end(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _translate(error: grpc.aio.AioRpcError) -> EnxameError:
    details = error.details() or str(error.code())
    if error.code() in _REFUSALS:
        return (Compacted if "compacted" in details else EtcdRefused)(details)
    return EtcdUnavailable(details)


class EtcdClient:
    """A connection to the member at ``endpoint`` (``host:port``). Use inside a running loop; close it."""

    def __init__(self, endpoint: str, tls: TlsFiles) -> None:
        self.endpoint = endpoint
        self._tls = tls
        self._connect()

    def _connect(self) -> None:
        tls = self._tls
        credentials = grpc.ssl_channel_credentials(tls.ca.read_bytes(), tls.key.read_bytes(), tls.cert.read_bytes())
        options = (*_OPTIONS, ("grpc.ssl_target_name_override", MANAGER_NAME))
        #: Set when this channel is not to be used any more: calls that are just being made may never hear of its end.
        self._ended = asyncio.Event()
        self._channel = grpc.aio.secure_channel(self.endpoint, credentials, options=options)
        self._kv: Any = rpc_pb2_grpc.KVStub(self._channel)
        self._watch: Any = rpc_pb2_grpc.WatchStub(self._channel)
        self._lease: Any = rpc_pb2_grpc.LeaseStub(self._channel)
        self._cluster: Any = rpc_pb2_grpc.ClusterStub(self._channel)
        self._maintenance: Any = rpc_pb2_grpc.MaintenanceStub(self._channel)

    async def renew(self) -> None:
        """Read the certificate files again and connect anew; calls under way may end, watches begin again."""
        old, ended = self._channel, self._ended
        self._connect()
        ended.set()
        await old.close(_LAST_CALLS)

    async def close(self) -> None:
        """End all calls. Idempotent."""
        self._ended.set()
        await self._channel.close()

    async def _call(self, method: Any, request: Any, timeout: float) -> Any:
        try:
            return await method(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None
        except _CHANNEL_ENDED as error:
            raise EtcdUnavailable(f"the connection to etcd is closed: {error}") from None
        except asyncio.CancelledError:
            if _cancelled():
                raise
            raise EtcdUnavailable("the connection to etcd was closed") from None

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
        answer = await self._call(self._kv.Range, request, timeout)
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
        answer = await self._call(self._kv.Txn, request, timeout)
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
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            call = self._watch.Watch()
            await _unless(ended, call.write(rpc_pb2.WatchRequest(create_request=create)))
            while True:
                answer = await _unless(ended, call.read())
                if answer is grpc.aio.EOF:
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
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None
        except _CHANNEL_ENDED as error:
            raise EtcdUnavailable(f"the connection to etcd is closed: {error}") from None
        except asyncio.CancelledError:
            if _cancelled():
                raise
            raise EtcdUnavailable("the connection to etcd was closed") from None
        finally:
            ended.cancel()
            if call is not None:
                call.cancel()

    async def compact(self, revision: int, *, timeout: float) -> None:
        """Forget what was before this revision."""
        await self._call(self._kv.Compact, rpc_pb2.CompactionRequest(revision=revision, physical=True), timeout)

    # -- leases

    async def lease_grant(self, ttl: int, *, timeout: float) -> int:
        """A new lease of ``ttl`` seconds; returns its id."""
        answer = await self._call(self._lease.LeaseGrant, rpc_pb2.LeaseGrantRequest(TTL=ttl), timeout)
        return int(answer.ID)

    async def lease_keep(self, lease: int, *, timeout: float) -> bool:
        """Let the lease begin anew. False when it is over."""
        call: Any = None
        try:
            call = self._lease.LeaseKeepAlive(timeout=timeout)
            await call.write(rpc_pb2.LeaseKeepAliveRequest(ID=lease))
            answer = await call.read()
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None
        except _CHANNEL_ENDED as error:
            raise EtcdUnavailable(f"the connection to etcd is closed: {error}") from None
        except asyncio.CancelledError:
            if _cancelled():
                raise
            raise EtcdUnavailable("the connection to etcd was closed") from None
        finally:
            if call is not None:
                call.cancel()
        return answer is not grpc.aio.EOF and answer.TTL > 0

    async def lease_revoke(self, lease: int, *, timeout: float) -> None:
        """End a lease: its keys are deleted."""
        await self._call(self._lease.LeaseRevoke, rpc_pb2.LeaseRevokeRequest(ID=lease), timeout)

    # -- members

    async def status(self, *, timeout: float) -> Status:
        """What this member says of itself; asks no other."""
        answer = await self._call(self._maintenance.Status, rpc_pb2.StatusRequest(), timeout)
        header = answer.header
        return Status(
            header.member_id, answer.leader, answer.raftTerm, header.revision, answer.version, answer.isLearner
        )

    async def members(self, *, timeout: float) -> list[Member]:
        """The members of the cluster."""
        return _members((await self._call(self._cluster.MemberList, rpc_pb2.MemberListRequest(), timeout)).members)

    async def member_add(self, peer_url: str, *, learner: bool, timeout: float) -> tuple[int, list[Member]]:
        """Add a member that is not running yet; returns its id and all members."""
        request = rpc_pb2.MemberAddRequest(peerURLs=[peer_url], isLearner=learner)
        answer = await self._call(self._cluster.MemberAdd, request, timeout)
        return answer.member.ID, _members(answer.members)

    async def member_promote(self, member: int, *, timeout: float) -> None:
        """Let a learner vote."""
        await self._call(self._cluster.MemberPromote, rpc_pb2.MemberPromoteRequest(ID=member), timeout)

    async def member_update(self, member: int, peer_url: str, *, timeout: float) -> None:
        """A member's peers find it at another address now."""
        request = rpc_pb2.MemberUpdateRequest(ID=member, peerURLs=[peer_url])
        await self._call(self._cluster.MemberUpdate, request, timeout)

    async def member_remove(self, member: int, *, timeout: float) -> None:
        """Remove a member for good: its data directory is of no use any more."""
        await self._call(self._cluster.MemberRemove, rpc_pb2.MemberRemoveRequest(ID=member), timeout)

    async def move_leader(self, member: int, *, timeout: float) -> None:
        """Hand Raft leadership to another voter; only the leader's own member does it."""
        await self._call(self._maintenance.MoveLeader, rpc_pb2.MoveLeaderRequest(targetID=member), timeout)


async def _unless(ended: asyncio.Future[Any], answer: Awaitable[Any]) -> Any:
    """What a call answers. Raises EtcdUnavailable when its channel ends before."""
    asked = asyncio.ensure_future(answer)
    try:
        await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
        if asked.done():
            return asked.result()
        raise EtcdUnavailable("the connection to etcd was closed")
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


def _operation(op: Put | Delete | Get) -> Any:
    if isinstance(op, Put):
        return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=op.key, value=op.value, lease=op.lease))
    if isinstance(op, Delete):
        end = _prefix_end(op.key) if op.prefix else b""
        return rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=op.key, range_end=end))
    return rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=op.key))


def _members(members: Any) -> list[Member]:
    return [Member(m.ID, m.name, tuple(m.peerURLs), m.isLearner) for m in members]
