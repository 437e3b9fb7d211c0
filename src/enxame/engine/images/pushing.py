"""Pushing an image: its kept blobs, described by a manifest, given to ``skopeo copy``; told in Docker's words."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from enxame.engine.children import PIPE, Child, child
from enxame.engine.images.dir_layout import lay_out
from enxame.engine.images.index import ImageRecord
from enxame.engine.images.layers import Layer, LayerStore
from enxame.engine.images.pulling import Progress
from enxame.engine.images.reference import Reference
from enxame.engine.images.registry import Registry, Session, location
from enxame.engine.images.registry_errors import push_error
from enxame.errors import EnxameError
from enxame.model.image import ProgressDetail, ProgressMessage, RegistryAuth

__all__ = ["Pusher"]

#: Seconds that a push may go without a word: the largest layer has to go up within.
_SILENCE_DEADLINE: Final = 900.0
_LINE_LIMIT: Final = 1 << 20
_CHECKED: Final = re.compile(r"Checking if we can reuse blob (sha256:[0-9a-f]{64})")
_SKIPPED: Final = re.compile(r"Skipping blob (sha256:[0-9a-f]{64}) \(already present\)")
_UPLOADED: Final = re.compile(r"Upload of layer (sha256:[0-9a-f]{64}) complete")


class Pusher:
    """Sends images to registries."""

    def __init__(self, registry: Registry, layers: LayerStore) -> None:
        self._registry = registry
        self._layers = layers

    async def push(
        self, name: Reference, record: ImageRecord, *, auth: RegistryAuth | None, progress: Progress
    ) -> tuple[str, int]:
        """Send one image under its name (with a tag); returns the digest and the size (bytes) of the
        manifest that the registry has now. The caller leases the image.

        Raises:
            EnxameError: in Docker's words.
        """
        for layer in reversed(record.layers):
            _tell(progress, layer, "Preparing")
        directory = self._layers.new_tmp()
        try:
            content = await asyncio.to_thread(lay_out, record, self._layers, directory)
            async with self._registry.session(name, auth) as session:
                digest = await self._copy(directory, name, session, record.layers, progress)
                if digest != content[0]:  # layers were compressed on their way: the manifest is another one
                    size = len((await self._registry.manifest(name.canonical(digest), session)).content)
                else:
                    size = content[1]
        finally:
            await asyncio.shield(self._layers.discard(directory))
        return digest, size

    async def _copy(
        self, directory: Path, name: Reference, session: Session, layers: list[Layer], progress: Progress
    ) -> str:
        answer = directory / "digest"
        fatal = ""
        told = _Told(layers, progress)
        options = [option.replace("--tls-verify", "--dest-tls-verify") for option in session.options]
        try:
            async with child(
                *(*session.command, "--debug", "copy", "--digestfile", str(answer), *options),
                *(f"dir:{directory}", location(name)),
                stderr=PIPE,
                env=session.environment,
                limit=_LINE_LIMIT,
            ) as process:
                async for line in _lines(process):
                    if "level=fatal" in line:
                        fatal = line
                    told.hear(line)
                await process.wait()
        except FileNotFoundError as error:
            raise EnxameError("skopeo is not installed: images cannot be pushed") from error
        if process.returncode != 0:
            raise push_error(fatal, name)
        told.end()
        return (await asyncio.to_thread(answer.read_text)).strip()


class _Told:
    """What skopeo's log says of each layer, told once."""

    def __init__(self, layers: list[Layer], progress: Progress) -> None:
        self._by_blob = {layer.blob: layer for layer in layers}
        self._progress = progress
        self._done: set[str] = set()

    def hear(self, line: str) -> None:
        for pattern, status in ((_CHECKED, "Pushing"), (_SKIPPED, "Layer already exists"), (_UPLOADED, "Pushed")):
            found = pattern.search(line)
            layer = self._by_blob.get(found[1]) if found else None
            if layer is None or layer.blob in self._done:
                continue
            if status != "Pushing":
                self._done.add(layer.blob)
            detail = ProgressDetail(current=layer.blob_size, total=layer.blob_size) if status == "Pushing" else None
            _tell(self._progress, layer, status, detail)

    def end(self) -> None:
        """All is there: also what has another digest there than here, because it was compressed."""
        for layer in self._by_blob.values():
            if layer.blob not in self._done:
                _tell(self._progress, layer, "Pushed")


async def _lines(process: Child) -> AsyncIterator[str]:
    while True:
        try:
            async with asyncio.timeout(_SILENCE_DEADLINE):
                line = await process.stderr.readline()
        except TimeoutError as error:
            raise EnxameError(f"the registry took nothing for {_SILENCE_DEADLINE:.0f} s") from error
        except ValueError:
            continue  # a line beyond the limit: nothing that we look for
        if not line:
            return
        yield line.decode(errors="replace")


def _tell(progress: Progress, layer: Layer, status: str, detail: ProgressDetail | None = None) -> None:
    short = layer.diff_id.removeprefix("sha256:")[:12]
    progress(ProgressMessage(status=status, progress_detail=detail or ProgressDetail(), id=short))
