"""Running worker processes: one a job, on nobody's event loop, killed with whoever waits for it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from enxame.engine.children import PIPE, child
from enxame.errors import EnxameError, InvalidArgument

__all__ = ["Staged", "StagedFile", "Unpacked", "stage_archive", "unpack_context", "unpack_layer"]

T = TypeVar("T")

_MODULE: Final = "enxame.engine.images.worker"
#: Seconds for one layer or archive; a worker that takes longer hangs on its disk.
_DEADLINE: Final = 1800.0


class Unpacked(msgspec.Struct, frozen=True):
    """What unpacking a layer found. ``size`` is the content of its files, ``blob_size`` that of the blob, in bytes."""

    diff_id: str
    digest: str
    blob_size: int
    size: int


class StagedFile(msgspec.Struct, frozen=True):
    """A file of an image archive, written to ``path``."""

    path: str
    digest: str
    size: int


class Staged(msgspec.Struct, frozen=True):
    """The files of an image archive by their names there, and the names that only lead to others."""

    files: dict[str, StagedFile]
    links: dict[str, str]


async def unpack_layer(blob: Path, into: Path) -> Unpacked:
    """Unpack ``blob`` (plain, gzip, zstd, xz or bzip2) into the empty directory ``into``.

    Raises:
        InvalidArgument: the archive is damaged or hostile.
        EnxameError: the disk is full, or the worker failed.
    """
    return await _run({"job": "unpack", "blob": str(blob), "into": str(into)}, None, Unpacked)


async def stage_archive(stream: AsyncIterator[bytes], into: Path) -> Staged:
    """Write the files of the image archive that ``stream`` brings into the empty directory ``into``.

    Raises:
        InvalidArgument: the archive is damaged.
        EnxameError: the disk is full, or the worker failed.
    """
    return await _run({"job": "stage", "into": str(into)}, stream, Staged)


async def unpack_context(stream: AsyncIterator[bytes], into: Path) -> int:
    """Write the files of the tar that ``stream`` brings into the empty directory ``into``, which nothing in it can
    leave. Returns the content of its files in bytes.

    Raises:
        InvalidArgument: the archive is damaged or hostile.
        EnxameError: the disk is full, or the worker failed.
    """
    return (await _run({"job": "context", "into": str(into)}, stream, dict[str, int]))["size"]


async def _run(job: dict[str, str], stream: AsyncIterator[bytes] | None, as_type: type[T]) -> T:
    try:
        async with (
            asyncio.timeout(_DEADLINE),
            child(
                *(sys.executable, "-m", _MODULE, json.dumps(job)),
                stdin=None if stream is None else PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env={"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "PYTHONUTF8": "1"},
            ) as process,
        ):
            if stream is not None:
                # A worker that has found an error stops reading and says so.
                async for chunk in stream:
                    await process.write(chunk)
            out, err = await process.communicate()
    except TimeoutError as error:
        raise EnxameError(f"unpacking took longer than {_DEADLINE:.0f} s") from error
    try:
        answer = json.loads(out)
    except ValueError as error:
        detail = err.decode(errors="replace").strip().rsplit("\n", 1)[-1] or f"exit code {process.returncode}"
        raise EnxameError(f"the unpacking worker failed: {detail}") from error
    if "error" in answer:
        raise _error(answer["error"], answer["errno"])
    return msgspec.convert(answer, as_type)


def _error(message: str, number: int) -> EnxameError:
    if number == 0:
        return InvalidArgument(message)
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return EnxameError(f"{message} (the data root's disk is full)")
    return EnxameError(message)
