"""buildah and its storage: a private root under the daemon's data, entered in namespaces of their own.

    root/    buildah's images and layers: copies of base images, and the cache of builds
    run/     what only matters while a build runs; emptied at the start

Every command runs in mount, PID and IPC namespaces of its own, so that killing it ends all that it started and
undoes all its mounts.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from enxame.engine.children import PIPE, STDOUT, child
from enxame.engine.images.archive import Manifest
from enxame.engine.images.image_proxy import ImageProxy
from enxame.engine.images.reference import Reference
from enxame.engine.images.registry import Session
from enxame.errors import EnxameError, Unimplemented
from enxame.model.base import decode

__all__ = ["BASE_PREFIX", "Buildah"]

#: How images of this machine are called in buildah's storage, with their id behind it.
BASE_PREFIX: Final = "localhost/enxame-base:"
_ALONE: Final = (
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"),
    "--ipc",
)
#: Seconds for bringing one image into the storage, or one out of it.
_COPY_DEADLINE: Final = 600.0
_CLEAN_DEADLINE: Final = 60.0
_PIECE: Final = 64 * 1024


class Buildah:
    """The programs and the storage that they share."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._bringing = asyncio.Lock()

    def start(self) -> None:
        """Make the directories; drop what was interrupted. Blocks."""
        shutil.rmtree(self._root / "run", ignore_errors=True)
        shutil.rmtree(self._root / "tmp", ignore_errors=True)

    def _prepare(self) -> None:
        for name in ("root", "run", "tmp"):
            (self._root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._root / "registries.conf").write_text("unqualified-search-registries = []\n")
        (self._root / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')

    async def new_directory(self) -> Path:
        """A fresh directory for one build; the caller removes it.

        Raises:
            Unimplemented: buildah is not installed.
        """
        if shutil.which("buildah") is None:
            raise Unimplemented("buildah is not installed on this node: images cannot be built")
        await asyncio.to_thread(self._prepare)
        path = self._root / "tmp" / os.urandom(8).hex()
        path.mkdir(mode=0o700)
        return path

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "HOME": str(self._root),
            "TMPDIR": str(self._root / "tmp"),
        }

    def _stored(self, name: str) -> str:
        return f"containers-storage:[overlay@{self._root / 'root'}+{self._root / 'run'}]{name}"

    async def bring(self, image_id: str, lay_out: Callable[[], Awaitable[Path]]) -> str:
        """Make sure that the storage has an image of this machine, and return its name there. ``lay_out`` makes
        a ``dir:`` of it, when it is needed.

        Raises:
            EnxameError: it cannot be copied.
        """
        hex_id = image_id.removeprefix("sha256:")
        name = f"{BASE_PREFIX}{hex_id}"
        async with self._bringing:
            if not (self._root / "root/overlay-images" / hex_id).exists():
                directory = await lay_out()
                await self._run(
                    [
                        *("skopeo", "--insecure-policy", "--registries-conf", str(self._root / "registries.conf")),
                        *("copy", "--quiet", f"dir:{directory}", self._stored(name)),
                    ],
                    _COPY_DEADLINE,
                )
        return name

    async def build(
        self,
        arguments: Sequence[str],
        directory: Path,
        *,
        netns: str,
        said: Callable[[str], None],
        entered: Sequence[str] = (),
    ) -> int:
        """Run ``buildah bud``, behind the words ``entered``, on ``directory/context``; ``said`` is given its output as
        it comes. Returns its exit code; when the caller is cancelled, nothing of it goes on.
        """
        enter = ("nsenter", f"--net={netns}") if netns else ()
        async with child(
            *(*entered, *enter, *_ALONE, *self._buildah(), "bud"),
            *("--isolation", "chroot", "--network", "host", "--signature-policy", str(self._root / "policy.json")),
            *("--format", "docker", "--layers", "--pull=never", "--skip-unused-stages=false", "--identity-label=false"),
            *("--http-proxy=false", *arguments, str(directory / "context")),
            stdout=PIPE,
            stderr=STDOUT,
            env=self._environment() | {"TMPDIR": str(directory)},
        ) as process:
            rest = b""
            while piece := await process.stdout.read(_PIECE):
                text = rest + piece
                # Characters that are cut in two wait for their other half.
                cut = next((at for at in range(1, 4) if text[-at:][:1] >= b"\xc0"), 0)
                rest = text[-cut:] if cut else b""
                said((text[:-cut] if cut else text).decode(errors="replace"))
            said(rest.decode(errors="replace"))
            return await process.wait()

    def _buildah(self) -> tuple[str, ...]:
        return (
            *("buildah", "--root", str(self._root / "root"), "--runroot", str(self._root / "run")),
            *("--storage-driver", "overlay", "--registries-conf", str(self._root / "registries.conf")),
        )

    async def config(self, image_id: str) -> bytes:
        """The configuration of an image that was built, byte for byte."""
        return await self._run(
            [
                *("skopeo", "--insecure-policy", "inspect", "--raw", "--config"),
                self._stored(f"@{image_id.removeprefix('sha256:')}"),
            ],
            _COPY_DEADLINE,
        )

    async def layers(self, image_id: str, wanted: Sequence[tuple[int, Path]]) -> None:
        """Write layers of an image that was built, given by their position (the lowest is 0), to files.

        Raises:
            EnxameError: they cannot be read.
        """
        if not wanted:
            return
        session = Session((*_ALONE, "skopeo", "--insecure-policy"), (), self._environment())
        name = Reference("localhost", "build")
        source = self._stored(f"@{image_id.removeprefix('sha256:')}")
        async with ImageProxy.open(name, session, source) as proxy:
            manifest = decode(await proxy.manifest(), Manifest)
            for position, path in wanted:
                layer = manifest.layers[position]
                await proxy.fetch(layer.digest, layer.size, path, lambda _done: None)

    async def forget_containers(self) -> None:
        """Remove what stopped builds left; only while none runs."""
        with suppress(EnxameError):
            await self._run([*self._buildah(), "rm", "--all"], _CLEAN_DEADLINE)

    def cached(self) -> list[str]:
        """The ids of all images in the storage. Blocks."""
        try:
            content = (self._root / "root/overlay-images/images.json").read_bytes()
            return sorted(str(one["id"]) for one in json.loads(content))
        except (OSError, ValueError, KeyError, TypeError):
            return []

    async def forget_images(self, before: datetime | None, ids: frozenset[str]) -> tuple[list[str], int]:
        """Remove images of the storage that were made before a time and have one of the ids (empty: any). What others
        are made of stays. Returns the ids of what went and its bytes.
        """
        was = await asyncio.to_thread(self.size)
        gone = []
        # The newest first: they are made of the older ones.
        for image_id, made in sorted(await asyncio.to_thread(self._images), key=lambda one: one[1], reverse=True):
            if (before is None or made < before) and (not ids or any(image_id.startswith(one) for one in ids)):
                with suppress(EnxameError):
                    await self._run([*self._buildah(), "rmi", image_id], _CLEAN_DEADLINE)
                    gone.append(image_id)
        return gone, max(was - await asyncio.to_thread(self.size), 0)

    def _images(self) -> list[tuple[str, datetime]]:
        try:
            found = json.loads((self._root / "root/overlay-images/images.json").read_bytes())
            return [(str(one["id"]), _moment(str(one["created"]))) for one in found]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def size(self) -> int:
        """Bytes that the storage takes. Blocks."""
        total = 0
        for directory, _, names in os.walk(self._root / "root"):
            for name in names:
                with suppress(OSError):
                    total += os.lstat(os.path.join(directory, name)).st_size
        return total

    def clear(self) -> None:
        """Remove the whole storage; only while no build runs. Blocks."""
        for name in ("root", "run"):
            shutil.rmtree(self._root / name, ignore_errors=True)

    async def _run(self, command: Sequence[str], deadline: float) -> bytes:
        try:
            async with (
                asyncio.timeout(deadline),
                child(*_ALONE, *command, stdout=PIPE, stderr=PIPE, env=self._environment()) as process,
            ):
                out, err = await process.communicate()
        except TimeoutError as error:
            raise EnxameError(f"{command[0]} took longer than {deadline:.0f} s") from error
        if process.returncode != 0:
            lines = err.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise EnxameError(f"{command[0]} failed: {lines[-1]}")
        return out


def _moment(text: str) -> datetime:
    """Go's RFC 3339, to the microsecond."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if match is None:
        raise ValueError(text)
    return datetime.fromisoformat(f"{match[1]}{(match[2] or '.0')[:7].ljust(7, '0')}{match[3].replace('Z', '+00:00')}")
