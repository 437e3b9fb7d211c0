"""nftables through libnftables, in one worker thread: texts in, whole atomic transactions out.

Texts that arrive while one is being applied are joined into the next transaction, so that many small changes at once
cost little more than one.
"""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from enxame.errors import EnxameError

_LIBRARY: Final = "libnftables.so.1"


class NftablesError(EnxameError):
    """The kernel or libnftables refused a transaction; nothing of it was applied."""


class Nftables:
    """A connection to the packet filter of the network namespace that :meth:`start` is called in.

    There is one, opened when the daemon starts: the library uses ``select``, which aborts for descriptors above 1023.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="enxame-nftables")
        self._library: ctypes.CDLL | None = None
        self._context: ctypes.c_void_p | None = None
        self._pending: list[tuple[str, asyncio.Future[None]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises NftablesError when the library is missing (Debian package ``nftables``)."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._open)

    async def stop(self) -> None:
        """Finish what was asked for, then close. The rules stay."""
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown()

    async def run(self, text: str) -> None:
        """Apply ``text`` (nft's language) wholly or not at all.

        Raises:
            NftablesError: refused, with nft's own words.
        """
        if not text:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((text, done))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="nftables")
        await done

    async def query(self, text: str) -> str:
        """What nft prints for a ``list …`` command."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._execute, text)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            batch, self._pending = self._pending, []
            errors = await loop.run_in_executor(self._executor, self._apply, [text for text, _ in batch])
            for (_, done), error in zip(batch, errors, strict=True):
                if done.done():  # the caller was cancelled; the change stands
                    continue
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)

    # What follows runs in the worker thread.

    def _apply(self, texts: list[str]) -> list[Exception | None]:
        try:
            self._execute("\n".join(texts))
        except NftablesError as error:
            if len(texts) == 1:
                return [error]
        else:
            return [None] * len(texts)
        # One of them is bad: find out which, and let the others have their way.
        errors: list[Exception | None] = []
        for text in texts:
            errors += self._apply([text])
        return errors

    def _execute(self, text: str) -> str:
        if self._context is None:
            raise NftablesError("nftables: not started")
        return self._run(self._context, text)

    def _run(self, context: ctypes.c_void_p, text: str) -> str:
        if self._library is None:
            raise NftablesError("nftables: not started")
        code = self._library.nft_run_cmd_from_buffer(context, text.encode())
        output: bytes = self._library.nft_ctx_get_output_buffer(context) or b""
        message: bytes = self._library.nft_ctx_get_error_buffer(context) or b""
        if code != 0:
            raise NftablesError(f"nftables: {message.decode(errors='replace').strip()}")
        return output.decode(errors="replace")

    def _open(self) -> None:
        try:
            library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise NftablesError(f"nftables: {error}; install the package nftables") from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_free.argtypes = [ctypes.c_void_p]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        library.nft_run_cmd_from_buffer.restype = ctypes.c_int
        for name in ("output", "error"):
            getattr(library, f"nft_ctx_buffer_{name}").argtypes = [ctypes.c_void_p]
            getter = getattr(library, f"nft_ctx_get_{name}_buffer")
            getter.argtypes = [ctypes.c_void_p]
            getter.restype = ctypes.c_char_p
        self._library, self._context = library, _new_context(library)

    def _close(self) -> None:
        if self._library is not None and self._context is not None:
            self._library.nft_ctx_free(self._context)
        self._library = self._context = None


def _new_context(library: ctypes.CDLL) -> ctypes.c_void_p:
    """A context for the packet filter of the calling thread's namespace."""
    context = ctypes.c_void_p(library.nft_ctx_new(0))
    if not context:
        raise NftablesError("nftables: the library could not be initialised")
    library.nft_ctx_buffer_output(context)
    library.nft_ctx_buffer_error(context)
    return context
