"""A process's streams, as a client that attaches to it has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from enxame.api.detach_keys import DetachScanner
from enxame.errors import EnxameError

__all__ = ["Attachment", "Typing"]


class Attachment(Protocol):
    """The streams of a process: what ``attach`` and ``exec_start`` of the container manager give."""

    @property
    def tty(self) -> bool:
        """Output is one raw stream."""
        ...

    def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        """Output: 1 stdout, 2 stderr; ends when the process does."""
        ...

    async def write(self, data: bytes) -> None:
        """To its stdin."""
        ...

    async def close_stdin(self) -> None:
        """End of its stdin."""
        ...

    async def close(self) -> None:
        """Let go of it; it goes on."""
        ...


class Typing:
    """What a client types, on its way to the process; without ``stdin`` it is dropped. On a terminal ``keys`` say that
    the user wants to leave.
    """

    def __init__(self, attachment: Attachment, *, stdin: bool, keys: bytes) -> None:
        self._attachment = attachment if stdin else None
        self._scanner = DetachScanner(keys) if attachment.tty and stdin else None

    async def take(self, data: bytes) -> bool:
        """Pass it on. True: the user wants to leave."""
        leave = False
        if self._scanner is not None:
            data, leave = self._scanner.feed(data)
        if self._attachment is not None and data:
            try:
                await self._attachment.write(data)
            except (OSError, EnxameError):
                # The process has closed its stdin or ended; the rest has nobody to read it.
                self._attachment = None
        return leave

    async def end(self) -> None:
        """Nothing more comes."""
        if self._attachment is not None:
            await self._attachment.close_stdin()
