"""One manager's part in an etcd cluster, put together: the member, its client, the backend, leadership."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from enxame.errors import Unavailable
from enxame.store.backend import Record
from enxame.store.etcd import EtcdBackend
from enxame.store.etcd_client import EtcdClient
from enxame.store.etcd_import import import_state
from enxame.store.etcd_leadership import Leadership
from enxame.store.etcd_members import EtcdMembers
from enxame.store.etcd_messages import EtcdUnavailable
from enxame.store.etcd_program import EtcdSettings
from enxame.store.etcd_records import Epoch
from enxame.store.etcd_server import EtcdServer

__all__ = ["EtcdNode"]

_log = logging.getLogger(__name__)

_ANSWER_TIMEOUT: Final = 1.0


class EtcdNode:
    """Make, :meth:`start`, then either :meth:`found` a state or wait to be promoted (:meth:`voting`); give
    :attr:`backend` to a store, and :meth:`follow`. ``gained`` and ``lost`` are those of :class:`Leadership`.
    """

    def __init__(self, settings: EtcdSettings, *, gained: Callable[[Epoch], None], lost: Callable[[], None]) -> None:
        self.settings = settings
        self.client = EtcdClient(settings.client_endpoint, settings.tls)
        self.server = EtcdServer(settings, answers=lambda: self.client.status(timeout=_ANSWER_TIMEOUT))
        self.backend = EtcdBackend(self.client, max_ops=settings.max_txn_ops, max_bytes=settings.max_request_bytes)
        self.backend.trouble = lambda: self.server.trouble
        self.members = EtcdMembers(self.client)
        self.leadership = Leadership(
            self.client,
            self.backend,
            node_id=settings.name,
            gained=gained,
            lost=lost,
            validity=settings.election_timeout - settings.heartbeat,
        )
        self._following: asyncio.Task[None] | None = None

    async def start(self, *, force_new_cluster: bool = False, timeout: float = 30.0) -> None:
        """Start the member and wait until it answers. Raises Unavailable; then nothing runs."""
        try:
            await self.server.start(force_new_cluster=force_new_cluster, timeout=timeout)
        except BaseException:
            await self.client.close()
            raise

    async def voting(self, *, timeout: float = 20.0) -> None:
        """Wait until the member is a voter that knows a leader. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        crashes = self.server.crashes
        while True:
            try:
                status = await self.client.status(timeout=_ANSWER_TIMEOUT)
                if status.leader and not status.learner:
                    return
            except EtcdUnavailable as error:
                _log.debug("the etcd member does not answer yet: %s", error.message)
            if self.server.crashes > crashes + 1:
                raise Unavailable(f"the etcd member of this manager does not run: {self.server.last_crash}")
            if loop.time() > deadline:
                raise Unavailable(f"the etcd member of this manager got no vote within {timeout:g} s")
            await asyncio.sleep(0.01)

    async def found(self, revision: int, records: Sequence[Record], *, timeout: float = 20.0) -> EtcdBackend:
        """Put a state into this new cluster of one, and lead it: what a move to etcd prepares. Raises Unavailable."""
        await self.voting(timeout=timeout)
        await import_state(self.client, revision, records)
        await self.backend.load()
        self.follow()
        try:
            async with asyncio.timeout(timeout):
                epoch = await self.leadership.claimed()
        except TimeoutError:
            raise Unavailable("this manager does not get to lead its own etcd") from None
        # Nobody but the caller, who has these records, ever wrote here.
        await self.backend.follow_to(epoch.revision)
        return self.backend

    def follow(self) -> None:
        """Follow leadership from now on; the backend must have been loaded."""
        if self._following is None:
            self._following = asyncio.create_task(self.leadership.run(), name=f"leadership {self.settings.name}")

    async def stop(self) -> None:
        """Give up leadership, end the member, close the client. Idempotent."""
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await self.server.stop()
        await self.client.close()
