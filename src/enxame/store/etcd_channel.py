"""A connection to one etcd member over mutual TLS, and what becomes of calls on it that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from enxame.errors import EnxameError
from enxame.store.etcd_files import TlsFiles
from enxame.store.etcd_grpc import grpc, rpc_pb2_grpc
from enxame.store.etcd_messages import Compacted, EtcdRefused, EtcdUnavailable

__all__ = ["END_OF_STREAM", "EtcdChannel", "translated", "unless"]

#: What a stream that has ended answers.
END_OF_STREAM: Final = grpc.aio.EOF

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
#: What gRPC raises in calls whose channel was closed while they were made.
_CHANNEL_ENDED: Final = (grpc.aio.UsageError, grpc.aio.InternalError, asyncio.InvalidStateError)


@contextmanager
def translated() -> Iterator[None]:
    """A call that fails inside was refused (:class:`EtcdRefused`: nothing happened) or is in doubt
    (:class:`EtcdUnavailable`).
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise _translate(error) from None
    except _CHANNEL_ENDED as error:
        raise EtcdUnavailable(f"the connection to etcd is closed: {error}") from None
    except asyncio.CancelledError:
        if _cancelled():
            raise
        raise EtcdUnavailable("the connection to etcd was closed") from None


class EtcdChannel:
    """A connection to the member at ``endpoint`` (``host:port``), with a stub for each of etcd's services. Use inside a
    running loop; close it.
    """

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
        self.kv: Any = rpc_pb2_grpc.KVStub(self._channel)
        self.watch: Any = rpc_pb2_grpc.WatchStub(self._channel)
        self.lease: Any = rpc_pb2_grpc.LeaseStub(self._channel)
        self.cluster: Any = rpc_pb2_grpc.ClusterStub(self._channel)
        self.maintenance: Any = rpc_pb2_grpc.MaintenanceStub(self._channel)

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

    async def call(self, method: Any, request: Any, timeout: float) -> Any:
        """One request, one answer. Raises as :func:`translated`."""
        with translated():
            return await method(request, timeout=timeout)

    def ended(self) -> asyncio.Future[bool]:
        """Done when the connection of now is not to be used any more; to be cancelled by who asked."""
        return asyncio.ensure_future(self._ended.wait())


async def unless(ended: asyncio.Future[Any], answer: Awaitable[Any]) -> Any:
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


def _cancelled() -> bool:
    """Whether a cancellation is meant for the running task: gRPC also raises one in calls whose channel is closed."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _translate(error: grpc.aio.AioRpcError) -> EnxameError:
    details = error.details() or str(error.code())
    if error.code() in _REFUSALS:
        return (Compacted if "compacted" in details else EtcdRefused)(details)
    return EtcdUnavailable(details)
