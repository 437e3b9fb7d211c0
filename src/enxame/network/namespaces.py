"""Network namespaces: made ahead of need, named by bind mounts, torn down without waiting for the kernel.

Making and entering namespaces changes the calling thread, so all of it happens in one thread of this file's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from enxame.errors import EnxameError
from enxame.network import rtnetlink
from enxame.network.netlink import NetlinkSocket

_CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 4096
_MNT_DETACH: Final = 2
_NAME_LENGTH: Final = 12
_THIS_NAMESPACE: Final = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A ready network namespace: ``lo`` is up, links made in it have no IPv6 until it is switched on.

    ``id`` has 64 hex digits; ``path`` is the file that keeps the namespace alive. ``fd`` and ``socket`` are open
    until :meth:`close`; the namespace stays.
    """

    def __init__(self, id_: str, path: Path, fd: int, socket: NetlinkSocket) -> None:
        self.id = id_
        self.path = path
        self.fd = fd
        self.socket = socket

    def close(self) -> None:
        """Idempotent."""
        self.socket.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def is_namespace(path: Path) -> bool:
    """Whether the name stands for a namespace, still or already: while one is made or removed it is a plain file."""
    try:
        return os.stat(path).st_dev == os.stat(_THIS_NAMESPACE).st_dev
    except OSError:
        return False


@contextlib.contextmanager
def entered(path: Path) -> Iterator[None]:
    """The calling thread is in the namespace at ``path`` meanwhile.

    Raises:
        EnxameError: there is none.
    """
    home = os.open(_THIS_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise EnxameError(f"open the network namespace {path}: {error.strerror}") from error
        try:
            _check(_libc.setns(fd, _CLONE_NEWNET), f"enter the network namespace {path}")
        finally:
            os.close(fd)
        try:
            yield
        finally:
            _check(_libc.setns(home, _CLONE_NEWNET), "return to the daemon's network namespace")
    finally:
        os.close(home)


class NamespacePool:
    """The namespaces of one daemon, under ``directory``; ``size`` of them are kept ready."""

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        self._size = size
        self._ready: deque[Namespace] = deque()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="enxame-netns")
        self._refill: asyncio.Task[None] | None = None
        self._home = -1
        self._closed = False

    async def start(self, keep: Iterable[str]) -> None:
        """Remove all namespaces but those whose file names are in ``keep``, then begin to fill the pool."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, self._open, frozenset(keep))
        self._wake()

    async def stop(self) -> None:
        """Remove the unused namespaces; those in use stay."""
        self._closed = True
        if self._refill is not None:
            await asyncio.gather(self._refill, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown()

    async def take(self) -> Namespace:
        """A ready namespace, of which the caller is now the owner.

        Raises:
            EnxameError: the kernel refused another one.
        """
        try:
            namespace = self._ready.popleft()
        except IndexError:
            made = asyncio.get_running_loop().run_in_executor(self._executor, self._make)
            try:
                namespace = await asyncio.shield(made)
            except asyncio.CancelledError:
                made.add_done_callback(self._keep)
                raise
        self._wake()
        return namespace

    async def open(self, path: Path) -> Namespace:
        """An existing namespace with a socket inside.

        Raises:
            EnxameError: there is none at ``path``.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._enter, path)

    async def write_settings(self, path: Path, settings: Mapping[str, str]) -> None:
        """Write ``net.*`` kernel settings (sysctl names, dots between the parts) inside a namespace.

        Raises:
            EnxameError: a setting is unknown to the kernel, or the value is refused.
        """
        await asyncio.get_running_loop().run_in_executor(self._executor, self._write, path, dict(settings))

    async def remove(self, paths: Iterable[Path]) -> None:
        """Drop the names; each namespace ends with its last process. Names that are gone already are fine."""
        await asyncio.get_running_loop().run_in_executor(self._executor, _unname, list(paths))

    def _keep(self, made: asyncio.Future[Namespace]) -> None:
        if not made.cancelled() and made.exception() is None:
            self._ready.append(made.result())

    def _wake(self) -> None:
        if not self._closed and (self._refill is None or self._refill.done()):
            self._refill = asyncio.create_task(self._fill(), name="namespace pool")

    async def _fill(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closed and len(self._ready) < self._size:
            try:
                self._ready.append(await loop.run_in_executor(self._executor, self._make))
            except EnxameError:
                # The next take() meets the same error and tells the user.
                return

    # What follows runs in the pool's thread.

    def _open(self, keep: frozenset[str]) -> None:
        self._home = os.open(_THIS_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        self._directory.mkdir(parents=True, exist_ok=True)
        _unname([path for path in self._directory.iterdir() if path.name not in keep])

    def _close(self) -> None:
        paths = [namespace.path for namespace in self._ready]
        for namespace in self._ready:
            namespace.close()
        self._ready.clear()
        _unname(paths)
        if self._home >= 0:
            os.close(self._home)
            self._home = -1

    def _make(self) -> Namespace:
        id_ = secrets.token_hex(32)
        path = self._directory / id_[:_NAME_LENGTH]
        _check(_libc.unshare(_CLONE_NEWNET), "create a network namespace")
        fd = -1
        try:
            fd = os.open(_THIS_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
            path.touch(mode=0o444)
            _check(
                _libc.mount(_THIS_NAMESPACE.encode(), os.fsencode(path), b"", _MS_BIND, None),
                f"name a network namespace {path}",
            )
            with contextlib.suppress(OSError):  # a kernel without IPv6
                Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            socket = NetlinkSocket()
            socket.execute([rtnetlink.set_up("lo")])
        except (OSError, EnxameError) as error:
            if fd >= 0:
                os.close(fd)
            _unname([path])
            if isinstance(error, OSError):
                raise EnxameError(f"create a network namespace: {error}") from error
            raise
        finally:
            _check(_libc.setns(self._home, _CLONE_NEWNET), "return to the daemon's network namespace")
        return Namespace(id_, path, fd, socket)

    def _enter(self, path: Path) -> Namespace:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise EnxameError(f"open the network namespace {path}: {error.strerror}") from error
        try:
            _check(_libc.setns(fd, _CLONE_NEWNET), f"enter the network namespace {path}")
            try:
                socket = NetlinkSocket()
            finally:
                _check(_libc.setns(self._home, _CLONE_NEWNET), "return to the daemon's network namespace")
        except (OSError, EnxameError):
            os.close(fd)
            raise
        return Namespace(path.name, path, fd, socket)

    def _write(self, path: Path, settings: dict[str, str]) -> None:
        with entered(path):
            for name, value in settings.items():
                _write_setting(name, value)


def _write_setting(name: str, value: str) -> None:
    if not name.startswith("net.") or "/" in name or ".." in name:
        raise EnxameError(f"sysctl {name!r} is not of the network namespace")
    try:
        Path("/proc/sys", *name.split(".")).write_text(value)
    except OSError as error:
        raise EnxameError(f"write sysctl {name}={value}: {error.strerror}") from error


def _unname(paths: Iterable[Path]) -> None:
    for path in paths:
        _libc.umount2(os.fsencode(path), _MNT_DETACH)
        # Removing the file also takes the mount away from other mount namespaces that copied it.
        path.unlink(missing_ok=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise EnxameError(f"{what}: {os.strerror(ctypes.get_errno())}")
