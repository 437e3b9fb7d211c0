"""A container's files, running or not: looked at, copied in and out, exported, compared with the image's."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from enxame.engine.bundle import SUBPATHS
from enxame.engine.container import Container
from enxame.engine.files.changes import list_changes
from enxame.engine.files.worker_process import FilesWorker, WorkerFailure, files_worker
from enxame.engine.subpaths import bind_subpath, release_subpaths
from enxame.engine.surroundings import Surroundings
from enxame.engine.users import resolve_user
from enxame.errors import EnxameError, InvalidArgument
from enxame.model.container_view import FilesystemChange, PathStat

__all__ = ["ContainerFiles"]

_OWN_FILES: Final = ("hostname", "hosts", "resolv.conf")
_WRITE_DEADLINE: Final = 600.0


class ContainerFiles:
    """Works on what the container sees, its volumes and binds included, from a process confined to that."""

    def __init__(self, around: Surroundings, find: Callable[[str], Container]) -> None:
        self._around, self._find = around, find
        self._subpaths = around.exec_root / SUBPATHS

    async def stat(self, ref: str, path: str) -> PathStat:
        """What is at ``path``. Raises NotFound."""
        async with self._work(self._find(ref), "stat", _checked(path)) as (_, found):
            return found

    @asynccontextmanager
    async def read(self, ref: str, path: str) -> AsyncIterator[tuple[PathStat, AsyncIterator[bytes]]]:
        """What is at ``path``, and a tar of it and all below it. Raises NotFound."""
        container = self._find(ref)
        async with self._work(container, "read", _checked(path)) as (worker, found):
            self._around.publish(container, "archive-path", path=path)
            yield found, worker.output()

    async def write(
        self, ref: str, path: str, stream: AsyncIterator[bytes], *, keep_kinds: bool = False, own: bool = False
    ) -> None:
        """Place the entries of a tar (compressed or not) in the directory ``path``.

        ``keep_kinds``: never replace a directory by a file or the reverse; ``own``: all shall belong to the container's
        user.

        Raises:
            NotFound: there is no such directory.
            PermissionDenied: it cannot be written to.
            InvalidArgument: it is no directory; the archive is damaged or would go elsewhere.
        """
        container = self._find(ref)
        _checked(path)
        async with self._opened(container) as (root, directory):
            owner = None
            user = container.definition.config.user
            if own and user:
                found = await asyncio.to_thread(resolve_user, user, [], directory)
                owner = [found.uid, found.gid]
            async with files_worker("write", root, path=path, owner=owner, keep_kinds=keep_kinds) as worker:
                await worker.feed(stream)
                try:
                    await worker.answer(_WRITE_DEADLINE)
                except WorkerFailure as failure:
                    raise self._told(failure, container, path) from failure
        self._around.publish(container, "extract-to-dir", path=path)

    @asynccontextmanager
    async def export(self, ref: str, *, layer: bool = False) -> AsyncIterator[AsyncIterator[bytes]]:
        """A tar of the whole filesystem, without volumes; ``layer``: of what the container wrote alone, in the form of
        an image's layer.
        """
        container = self._find(ref)
        async with self.mounted(container) as merged:
            upper = self._around.images.graph_driver_data(container.id).get("UpperDir", "")
            root = {"path": upper if layer else merged, "mounts": [], "read_only": True}
            async with files_worker("layer" if layer else "tree", root) as worker:
                try:
                    await worker.answer()
                except WorkerFailure as failure:
                    raise self._told(failure, container, "/") from failure
                if not layer:
                    self._around.publish(container, "export")
                yield worker.output()

    async def changes(self, ref: str) -> list[FilesystemChange]:
        """What differs from the image, by path."""
        data = self._around.images.graph_driver_data(self._find(ref).id)
        lower = [path for path in data.get("LowerDir", "").split(":") if path]
        try:
            return await asyncio.to_thread(list_changes, data["UpperDir"], lower)
        except FileNotFoundError:  # it has never been started
            return []
        except OSError as error:
            raise EnxameError(f"cannot read the container's filesystem: {error}") from error

    # -- the way in

    @asynccontextmanager
    async def _work(self, container: Container, job: str, path: str) -> AsyncIterator[tuple[FilesWorker, PathStat]]:
        async with self._opened(container) as (root, _), files_worker(job, root, path=path) as worker:
            try:
                found = await worker.answer()
            except WorkerFailure as failure:
                raise self._told(failure, container, path) from failure
            yield worker, msgspec.convert(found, PathStat)

    @staticmethod
    def _told(failure: WorkerFailure, container: Container, path: str) -> EnxameError:
        fixed = container.definition.host.readonly_rootfs
        return failure.told(
            f"Could not find the file {path} in container {container.name}",
            "container rootfs is marked read-only" if fixed else "mounted volume is marked read-only",
        )

    @asynccontextmanager
    async def _opened(self, container: Container) -> AsyncIterator[tuple[dict[str, Any], str]]:
        """How the worker gets in, and the root directory as this process sees it."""
        condition = container.condition
        if container.running:
            async with self.mounted(container):
                yield {"pid": condition.pid, "start": condition.pid_start}, f"/proc/{condition.pid}/root"
            return
        async with self.mounted(container) as merged:
            holder = f"files-{secrets.token_hex(6)}"
            try:
                mounts = await self._mounts(container, holder)
                yield {"path": merged, "mounts": mounts, "read_only": container.definition.host.readonly_rootfs}, merged
            finally:
                await asyncio.shield(self._give_back(holder))

    async def _give_back(self, holder: str) -> None:
        await asyncio.to_thread(release_subpaths, self._subpaths, holder)
        await self._around.volumes.release(holder)

    async def _mounts(self, container: Container, holder: str) -> list[dict[str, Any]]:
        """What a start would mount: volumes and binds, and the files that the daemon writes."""
        mounts: list[dict[str, Any]] = []
        for mount in container.definition.mounts:
            source = mount.source
            if mount.type == "tmpfs":
                continue
            if mount.type == "volume":
                source = await self._around.volumes.acquire(mount.name, holder)
                if mount.subpath:
                    source = await asyncio.to_thread(bind_subpath, self._subpaths, holder, source, mount.subpath)
            mounts.append({"source": source, "destination": mount.destination, "read_only": mount.read_only})
        mounts += await asyncio.to_thread(self._own_files, container, {mount["destination"] for mount in mounts})
        return mounts

    def _own_files(self, container: Container, taken: set[str]) -> list[dict[str, Any]]:
        directory = self._around.records.directory(container.id)
        return [
            {"source": str(directory / name), "destination": f"/etc/{name}", "read_only": False}
            for name in _OWN_FILES
            if f"/etc/{name}" not in taken and os.path.exists(directory / name)
        ]

    @asynccontextmanager
    async def mounted(self, container: Container) -> AsyncIterator[str]:
        """The container's own filesystem, mounted at least as long as the block."""
        async with container.lock:
            merged = await self._around.mount(container)
            container.file_users += 1
        try:
            yield merged
        finally:
            await asyncio.shield(self._let_go(container))

    async def _let_go(self, container: Container) -> None:
        """The last one unmounts what no run needs."""
        async with container.lock:
            container.file_users -= 1
            idle = not container.running and container.created is None
            if idle and not container.file_users:
                if container.cleanup is not None:
                    await asyncio.shield(container.cleanup)
                await self._around.images.unmount(container.id)


def _checked(path: str) -> str:
    if not path:
        raise InvalidArgument('invalid path parameter: "path" must not be empty')
    if "\0" in path:
        raise InvalidArgument("invalid path parameter: it holds a NUL byte")
    return path
