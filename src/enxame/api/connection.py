"""One client's connection: aiohttp's, plus a word to handlers when the client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web


class Connection(web.RequestHandler):
    """Cancels a handler that only serves its client (streams, waits) when that client disconnects.

    Handlers that change something go on to their end, as nobody could tell how far they had come.
    """

    __slots__ = ("_serving",)

    _serving: asyncio.Task[object] | None

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone."""
        serving = getattr(self, "_serving", None)
        super().connection_lost(exc)
        if serving is not None:
            serving.cancel()

    def serve(self, task: asyncio.Task[object] | None) -> None:
        """Tie ``task`` to the client; ``None`` unties."""
        self._serving = task


@contextmanager
def cancelled_on_disconnect(request: web.BaseRequest) -> Iterator[None]:
    """In this block the current task is cancelled when the client disconnects."""
    connection = request.protocol
    if not isinstance(connection, Connection):
        yield
        return
    connection.serve(asyncio.current_task())
    try:
        yield
    finally:
        connection.serve(None)
