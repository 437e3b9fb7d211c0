"""A backend whose records are encrypted before they reach another one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from enxame.store.backend import Backend, Commit, Mutation, Record
from enxame.store.sealing import Keyring, is_sealed

__all__ = ["SealedBackend"]

_log = logging.getLogger(__name__)


class SealedBackend:
    """Kinds, ids and revisions stay in the clear. ``take_plain``: the state may be one from before encryption, which is
    encrypted when it is loaded.
    """

    def __init__(self, inner: Backend, keys: Keyring, *, take_plain: bool = False) -> None:
        self._inner = inner
        self._keys = keys
        self._take_plain = take_plain
        self._committing = asyncio.Lock()

    @property
    def commit_bytes(self) -> int:
        """That of the backend underneath."""
        return self._inner.commit_bytes

    async def load(self) -> tuple[int, list[Record]]:
        """The current revision and every record, decrypted."""
        revision, found = await self._inner.load()
        if self._take_plain and any(not is_sealed(record.data) for record in found):
            found = await self._rewrite(lambda record: not is_sealed(record.data))
            _log.info("the swarm's state is encrypted at rest from now on")
        self._take_plain = False
        return revision, [self._opened(record) for record in found]

    async def commit(self, mutations: Sequence[Mutation]) -> int:
        """Encrypt and commit."""
        async with self._committing:
            return await self._inner.commit([self._sealed(mutation) for mutation in mutations])

    async def watch(self, after: int) -> AsyncGenerator[Commit, None]:
        """Commits of others, decrypted."""
        async with aclosing(self._inner.watch(after)) as commits:
            async for commit in commits:
                yield Commit(commit.revision, [self._unsealed(mutation) for mutation in commit.mutations])

    async def rewrite(self, records: Sequence[Record]) -> None:
        """See :meth:`Backend.rewrite`."""
        sealed = [replace(record, data=self._keys.seal(record.kind, record.id, record.data)) for record in records]
        await self._inner.rewrite(sealed)

    async def reseal(self) -> None:
        """Encrypt with the current key whatever is encrypted with another. Commits wait meanwhile.

        Raises:
            CommitFailed: not all of it; the other keys are still needed.
        """
        async with self._committing:
            await self._rewrite(lambda record: not self._keys.is_current(record.data))

    async def close(self) -> None:
        """Close the backend underneath."""
        await self._inner.close()

    async def _rewrite(self, wanted: Callable[[Record], bool]) -> list[Record]:
        _, found = await self._inner.load()
        changed: dict[tuple[str, str], Record] = {}
        for record in found:
            if wanted(record):
                data = self._keys.open(record.kind, record.id, record.data) if is_sealed(record.data) else record.data
                sealed = self._keys.seal(record.kind, record.id, data)
                changed[record.kind, record.id] = replace(record, data=sealed)
        if changed:
            await self._inner.rewrite(list(changed.values()))
        return [changed.get((record.kind, record.id), record) for record in found]

    def _opened(self, record: Record) -> Record:
        return replace(record, data=self._keys.open(record.kind, record.id, record.data))

    def _sealed(self, mutation: Mutation) -> Mutation:
        if mutation.data is None:
            return mutation
        return replace(mutation, data=self._keys.seal(mutation.kind, mutation.id, mutation.data))

    def _unsealed(self, mutation: Mutation) -> Mutation:
        if mutation.data is None:
            return mutation
        return replace(mutation, data=self._keys.open(mutation.kind, mutation.id, mutation.data))
