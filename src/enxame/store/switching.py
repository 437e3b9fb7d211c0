"""A backend whose place another one can take while the store goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from enxame.store.backend import Backend, Commit, CommitFailed, Mutation, Record

__all__ = ["SwitchingBackend"]


class SwitchingBackend:
    """Passes everything on to the backend of the moment.

    While :meth:`frozen`, commits wait; those that were begun have ended. A switch inside it is seen by nobody: the next
    backend goes on with the same records and with revisions that follow.
    """

    def __init__(self, backend: Backend) -> None:
        self.current = backend
        self._committing = asyncio.Lock()
        self._switched = asyncio.Event()
        self._closed = False

    @property
    def commit_bytes(self) -> int:
        """That of the backend of the moment."""
        return self.current.commit_bytes

    async def load(self) -> tuple[int, list[Record]]:
        """The current revision and every record."""
        return await self.current.load()

    async def commit(self, mutations: Sequence[Mutation]) -> int:
        """Commit; waits while frozen."""
        async with self._committing:
            if self._closed:
                raise CommitFailed("the swarm's state is closed")
            return await self.current.commit(mutations)

    async def rewrite(self, records: Sequence[Record]) -> None:
        """Replace the bytes of records; waits while frozen."""
        async with self._committing:
            await self.current.rewrite(records)

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """No commit is under way inside; those that come wait."""
        async with self._committing:
            yield

    def switch(self, backend: Backend) -> Backend:
        """Another backend from now on, which holds the same records; returns the former, to be closed. Only frozen."""
        if not self._committing.locked():
            raise RuntimeError("a backend is switched only while it is frozen")
        former, self.current = self.current, backend
        self._switched.set()
        return former

    async def watch(self, after: int) -> AsyncGenerator[Commit, None]:
        """Commits of others, over all switches."""
        while not self._closed:
            self._switched.clear()
            switched = asyncio.ensure_future(self._switched.wait())
            try:
                async with aclosing(self.current.watch(after)) as source:
                    while (commit := await _next(source, switched)) is not None:
                        after = max(after, commit.revision)
                        yield commit
                await switched
            finally:
                switched.cancel()

    async def close(self) -> None:
        """Close the backend of the moment."""
        self._closed = True
        self._switched.set()
        await self.current.close()


async def _next(source: AsyncGenerator[Commit, None], switched: asyncio.Future[Any]) -> Commit | None:
    """The next commit; None when the source ended or another backend took its place."""
    upcoming: asyncio.Future[Commit | None] = asyncio.ensure_future(anext(source, None))
    try:
        await asyncio.wait((upcoming, switched), return_when=asyncio.FIRST_COMPLETED)
        return upcoming.result() if upcoming.done() else None
    finally:
        if not upcoming.done():
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)
