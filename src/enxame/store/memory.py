"""A backend that forgets: for tests and simulations."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from enxame.store.backend import Commit, Mutation, Record

__all__ = ["MemoryBackend"]


class MemoryBackend:
    """Keeps the records in a dict. A second store opened on it afterwards finds what the first one committed."""

    commit_bytes = 1 << 20

    def __init__(self) -> None:
        self._revision = 0
        self._records: dict[tuple[str, str], Record] = {}

    async def load(self) -> tuple[int, list[Record]]:
        """The revision and every record."""
        return self._revision, list(self._records.values())

    async def commit(self, mutations: Sequence[Mutation]) -> int:
        """Apply at once."""
        self._revision += 1
        for mutation in mutations:
            key = (mutation.kind, mutation.id)
            if mutation.data is None:
                self._records.pop(key, None)
            else:
                self._records[key] = Record(mutation.kind, mutation.id, self._revision, mutation.data)
        return self._revision

    async def rewrite(self, records: Sequence[Record]) -> None:
        """Replace the bytes."""
        self._records |= {(record.kind, record.id): record for record in records}

    async def watch(self, after: int) -> AsyncGenerator[Commit, None]:  # noqa: ARG002
        """Nobody else writes: ends at once."""
        return
        yield

    async def close(self) -> None:
        """Nothing to release."""
