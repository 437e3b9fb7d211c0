"""Building an image: the context and the base images in, buildah's work, the result into this machine's images."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Final, Protocol

from enxame.engine import mount_syscalls
from enxame.engine.building.build_group import BuildGroup
from enxame.engine.building.buildah import Buildah
from enxame.engine.building.dockerfile import BaseImage, Dockerfile, parse_dockerfile
from enxame.engine.building.narration import Narration
from enxame.engine.building.options import BuildOptions
from enxame.engine.building.result import as_dockers
from enxame.engine.cgroups import detect_layout
from enxame.engine.images.login import registry_domain
from enxame.engine.images.reference import parse, parse_repository
from enxame.engine.images.store import ImageStore
from enxame.engine.images.worker_process import unpack_context
from enxame.engine.sandbox import SandboxInfo, SandboxRequest
from enxame.engine.uncancelled import to_the_end
from enxame.errors import Conflict, EnxameError, InvalidArgument, NotFound
from enxame.model.image import Image, ProgressMessage

__all__ = ["Builder"]

Progress = Callable[[ProgressMessage], None]
_DOCKERFILE_LIMIT: Final = 4 << 20


class Sandboxes(Protocol):
    """Network namespaces for what runs during a build."""

    async def connect(self, container_id: str, request: SandboxRequest) -> SandboxInfo:
        """Make one."""
        ...

    async def release(self, container_id: str) -> None:
        """Take it down. Idempotent."""
        ...


class Builder:
    """Builds of this machine. Several may run at once; they share one cache."""

    def __init__(self, root: Path, images: ImageStore, networks: Sandboxes) -> None:
        self._buildah = Buildah(root)
        self._images = images
        self._networks = networks
        self._running: set[asyncio.Task[object]] = set()
        self._layout = detect_layout()

    async def start(self) -> None:
        """Drop what was interrupted."""
        await asyncio.to_thread(self._buildah.start)

    async def stop(self) -> None:
        """End the builds that run."""
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def build(self, context: AsyncIterator[bytes], options: BuildOptions, progress: Progress) -> str:
        """Build an image of a tar and return its id. Progress is Docker's: steps, their output, the image's id.

        Raises:
            InvalidArgument: the context, the Dockerfile or an option is wrong.
            Unimplemented: buildah is not installed.
            EnxameError: an instruction failed; in Docker's words.
        """
        names = [parse_repository(tag) for tag in options.tags]
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        directory = await self._buildah.new_directory()
        ended = False
        try:
            image_id = await self._build(context, options, progress, directory)
            for name in names:
                await self._images.tag(image_id, name.name, name.tag)
            ended = True
        except OSError as error:
            raise EnxameError(f"cannot build: {error}") from error
        finally:
            self._running.discard(task)
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True))
            if not ended and not self._running:
                await asyncio.shield(self._buildah.forget_containers())
        short = image_id.removeprefix("sha256:")[:12]
        progress(ProgressMessage(aux={"ID": image_id}))
        if options.quiet:
            progress(ProgressMessage(stream=f"{image_id}\n"))
        else:
            progress(ProgressMessage(stream=f"Successfully built {short}\n"))
            for name in names:
                progress(ProgressMessage(stream=f"Successfully tagged {name.familiar}\n"))
        return image_id

    async def _build(
        self, context: AsyncIterator[bytes], options: BuildOptions, progress: Progress, directory: Path
    ) -> str:
        files = directory / "context"
        files.mkdir(mode=0o755)
        await unpack_context(context, files)
        text = await asyncio.to_thread(_read_dockerfile, files, options.dockerfile)
        given = {name: value for name, value in options.arguments.items() if value is not None}
        dockerfile = await asyncio.to_thread(parse_dockerfile, text, arguments=given, target=options.target)
        async with AsyncExitStack() as stack:
            bases = {wanted: await self._base(wanted, options, progress) for wanted in dockerfile.images}
            for image in bases.values():
                stack.enter_context(self._images.keeping(image))
            stored = {wanted: await self._bring(image) for wanted, image in bases.items()}
            renamed = await asyncio.to_thread(dockerfile.renamed, stored.__getitem__)
            (directory / "Dockerfile").write_text(renamed)
            sandbox = await stack.enter_async_context(self._network(options))
            entered = await stack.enter_async_context(self._limits(options, directory.name))
            arguments = _arguments(options, directory, sandbox)
            narration = _narration(dockerfile, stored, options, progress)

            def said(piece: str) -> None:
                for line in narration.hear(piece):
                    if not options.quiet:
                        progress(ProgressMessage(stream=line))

            code = await self._buildah.build(arguments, directory, netns=sandbox.netns_path, said=said, entered=entered)
            for line in narration.end():
                progress(ProgressMessage(stream=line))
            if code != 0:
                raise narration.failure(code)
            return await self._take((directory / "iid").read_text().strip())

    async def _base(self, wanted: BaseImage, options: BuildOptions, progress: Progress) -> Image:
        platform = wanted.platform or options.platform
        if not options.pull:
            try:
                image = self._images.resolve(wanted.reference)
            except NotFound:
                pass
            else:
                if not platform or platform.partition("/")[2].partition("/")[0] == image.architecture:
                    return image
        domain = parse(wanted.reference).domain
        auth = next((one for key, one in options.credentials.items() if registry_domain(key) == domain), None)
        return await self._images.registries.pull(wanted.reference, auth=auth, platform=platform, progress=progress)

    async def _bring(self, image: Image) -> str:
        async with AsyncExitStack() as stack:
            return await self._buildah.bring(
                image.id, lambda: stack.enter_async_context(self._images.laid_out(image.id))
            )

    async def _take(self, built: str) -> str:
        """Make what buildah built an image of this machine; returns its id."""
        config = as_dockers(await self._buildah.config(built))
        image_id = f"sha256:{sha256(config).hexdigest()}"

        async def fetch(wanted: list[tuple[int, Path]]) -> None:
            await self._buildah.layers(built, wanted)

        await self._images.take(image_id, config, fetch)
        return image_id

    @asynccontextmanager
    async def _limits(self, options: BuildOptions, token: str) -> AsyncIterator[tuple[str, ...]]:
        """What to put before buildah's command, so that the limits of the request hold for all it runs."""
        group = BuildGroup(self._layout, token)
        entered = await to_the_end(lambda: group.make(options))
        try:
            yield entered
        finally:
            if entered:
                await asyncio.shield(asyncio.to_thread(group.remove))

    @asynccontextmanager
    async def _network(self, options: BuildOptions) -> AsyncIterator[SandboxInfo]:
        """The network that ``RUN`` sees: that of a container on the default bridge, unless told otherwise."""
        mode = {"": "bridge", "default": "bridge"}.get(options.network, options.network)
        if mode == "host":
            yield SandboxInfo()
            return
        if mode.startswith("container:"):
            raise InvalidArgument("a build cannot share a container's network: use host, bridge, none or a network")
        token = token_hex(32)
        request = SandboxRequest(name=f"build-{token[:12]}", hostname="build", network_mode=mode)
        try:
            yield await self._networks.connect(token, request)
        finally:
            await asyncio.shield(self._networks.release(token))

    # The cache

    async def cache_size(self) -> int:
        """Bytes that the cache takes."""
        return await asyncio.to_thread(self._buildah.size)

    async def prune(
        self, *, before: datetime | None = None, ids: frozenset[str] = frozenset()
    ) -> tuple[list[str], int]:
        """Drop the cache; images of this machine stay. ``before``: only what was made before that time; ``ids``: only
        what has these ids. Returns the ids of what went and its bytes.

        Raises:
            Conflict: a build runs.
        """
        if self._running:
            raise Conflict("a build is running: its cache cannot be pruned")
        if before is not None or ids:
            return await self._buildah.forget_images(before, ids)

        def clear() -> tuple[list[str], int]:
            gone, freed = self._buildah.cached(), self._buildah.size()
            self._buildah.clear()
            return gone, freed

        return await asyncio.shield(asyncio.to_thread(clear))


def _narration(
    dockerfile: Dockerfile, stored: dict[BaseImage, str], options: BuildOptions, progress: Progress
) -> Narration:
    for number, argument in enumerate(dockerfile.arguments, 1):
        if not options.quiet:
            progress(ProgressMessage(stream=f"Step {number}/{dockerfile.steps} : {argument}\n"))
    names = {ours: wanted.reference for wanted, ours in stored.items()}
    return Narration(dockerfile.steps, names, told=len(dockerfile.arguments))


def _read_dockerfile(files: Path, name: str) -> str:
    """The Dockerfile of the context, which may not lead out of it."""
    try:
        descriptor = mount_syscalls.open_in_root(str(files), name)
        try:
            with open(f"/proc/self/fd/{descriptor}", "rb") as file:
                content = file.read(_DOCKERFILE_LIMIT + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InvalidArgument(f"Cannot locate specified Dockerfile: {name}") from error
    if len(content) > _DOCKERFILE_LIMIT:
        raise InvalidArgument(f"the Dockerfile is larger than {_DOCKERFILE_LIMIT >> 20} MiB")
    return content.decode(errors="replace")


def _arguments(options: BuildOptions, directory: Path, sandbox: SandboxInfo) -> list[str]:
    arguments = ["--file", str(directory / "Dockerfile"), "--iidfile", str(directory / "iid")]
    single = {
        "--target": options.target,
        "--platform": options.platform,
        "--shm-size": f"{options.shm_size}b" if options.shm_size else "",
    }
    arguments += [f"{flag}={value}" for flag, value in single.items() if value]
    arguments += [f"--build-arg={name}={value}" for name, value in options.arguments.items() if value is not None]
    arguments += [f"--label={name}={value}" for name, value in sorted(options.labels.items())]
    arguments += [f"--add-host={host}" for host in options.extra_hosts]
    arguments += [f"--ulimit={one.name}={one.soft}:{one.hard}" for one in options.ulimits]
    servers = [line.split()[1] for line in sandbox.resolv_conf.splitlines() if line.startswith("nameserver ")]
    arguments += [f"--dns={server}" for server in servers]
    arguments += ["--no-cache"] * options.no_cache + ["--squash"] * options.squash
    return arguments
