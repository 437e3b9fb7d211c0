"""Volumes of this machine: the ``local`` driver. What lies on the disk: :mod:`enxame.engine.volume_records`.

A volume with the options ``type``, ``o`` and ``device`` is a mount that is made when the first container takes it.
"""

from __future__ import annotations

import asyncio
import builtins
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from weakref import WeakValueDictionary

import msgspec

from enxame.engine.events import EventPublisher
from enxame.engine.patterns import any_matches
from enxame.engine.uncancelled import to_the_end
from enxame.engine.volume_filling import fill, has_source
from enxame.engine.volume_options import mount_options
from enxame.engine.volume_records import StoredVolume, VolumeRecords
from enxame.errors import Conflict, EnxameError, InvalidArgument, NotFound
from enxame.model.filters import Filters
from enxame.model.volume import (
    Volume,
    VolumeCreateRequest,
    VolumeListResponse,
    VolumesPruneReport,
    VolumeUsage,
)

__all__ = ["ANONYMOUS_LABEL", "VolumeStore"]

_log = logging.getLogger(__name__)
#: The label by which clients tell volumes that nobody named.
ANONYMOUS_LABEL: Final = "com.docker.volume.anonymous"
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_LIST_FILTERS: Final = frozenset({"dangling", "driver", "label", "name"})
_PRUNE_FILTERS: Final = frozenset({"all", "label", "label!"})

T = TypeVar("T")


class VolumeStore:
    """All volumes. Containers hold volumes from ``acquire`` to ``release``, over restarts of the daemon.

    ``holders`` tells which other containers want a volume kept, by its name: those that are made but do not run. The
    container engine sets it.
    """

    def __init__(self, root: Path, events: EventPublisher) -> None:
        self._records = VolumeRecords(root)
        self._events = events
        self.holders: Callable[[str], Iterable[str]] = lambda _name: ()
        # Gone with the last operation that holds them.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def start(self) -> None:
        """Read what is there; what was half made or half removed goes."""
        await asyncio.to_thread(self._records.load)

    # Looking

    def inspect(self, name: str) -> Volume:
        """One volume.

        Raises:
            NotFound: ``get X: no such volume``.
        """
        return self._view(self._get(name))

    def list(self, filters: Filters | None = None) -> VolumeListResponse:
        """The volumes, by name.

        Raises:
            InvalidArgument: a filter that there is not.
        """
        wanted = filters or Filters()
        _check_filters(wanted, _LIST_FILTERS)
        found = [self._view(stored) for stored in self._records if self._matches(stored, wanted)]
        return VolumeListResponse(volumes=found)

    def _matches(self, stored: StoredVolume, filters: Filters) -> bool:
        if "dangling" in filters and filters.flag("dangling") == bool(self._in_use(stored.name)):
            return False
        if "driver" in filters and "local" not in filters.get("driver"):
            return False
        if "name" in filters and not any_matches(filters.get("name"))(stored.name):
            return False
        return filters.labels_match(stored.labels)

    async def usage(self) -> builtins.list[Volume]:
        """The volumes with the bytes in them and the number of containers that hold them."""
        names = [stored.name for stored in self._records]
        sizes = await asyncio.to_thread(lambda: {name: self._records.size(name) for name in names})
        return [
            msgspec.structs.replace(
                self._view(stored),
                usage_data=VolumeUsage(size=sizes[stored.name], ref_count=len(self._in_use(stored.name))),
            )
            for stored in self._records
            if stored.name in sizes
        ]

    def users(self, name: str) -> builtins.list[str]:
        """Ids of the containers that hold the volume.

        Raises:
            NotFound: no such volume.
        """
        return self._in_use(self._get(name).name)

    # Making and removing

    async def create(self, request: VolumeCreateRequest) -> Volume:
        """Make a volume; one that is there already is given back as it is.

        Raises:
            InvalidArgument: the name or an option breaks a rule.
            NotFound: a driver that there is not.
            EnxameError: the disk refused.
        """
        _check_driver(request.driver, request.name)
        name = request.name or secrets.token_hex(32)
        async with self._lock(name):
            return await self._create(name, request, anonymous=not request.name or ANONYMOUS_LABEL in request.labels)

    async def _create(self, name: str, request: VolumeCreateRequest, *, anonymous: bool) -> Volume:
        known = self._records.get(name)
        if known is not None:
            return self._view(known)
        if len(name) == 1:
            raise InvalidArgument(
                f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
            )
        if not _NAME.fullmatch(name):
            raise InvalidArgument(
                f'create {name}: "{name}" includes invalid characters for a local volume name, only '
                '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
            )
        if len(name) > 255:
            raise InvalidArgument(f"create {name}: the name is longer than 255 characters")
        try:
            mount_options(request.driver_opts)
        except InvalidArgument as error:
            raise InvalidArgument(f"create {name}: {error.message}") from error
        labels = dict(request.labels)
        if anonymous:
            labels.setdefault(ANONYMOUS_LABEL, "")
        stored = StoredVolume(
            name=name,
            created_at=datetime.now(UTC).replace(microsecond=0),
            labels=labels,
            options=dict(request.driver_opts),
            anonymous=anonymous,
        )
        await _blocking(f"create {name}", lambda: self._records.make(stored))
        self._events.publish("volume", "create", name, {"driver": "local"})
        return self._view(stored)

    async def remove(self, name: str, force: bool = False) -> None:
        """Remove a volume and what is in it. ``force`` forgives one that is not there.

        Raises:
            NotFound: ``get X: no such volume``.
            Conflict: ``remove X: volume is in use - [ids]``.
            EnxameError: the disk refused.
        """
        async with self._lock(name):
            if name not in self._records and force:
                return
            self._get(name)
            users = self._in_use(name)
            if users:
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            await self._remove(name)

    async def _remove(self, name: str) -> None:
        await _blocking(f"remove {name}", lambda: self._records.delete(name))
        self._events.publish("volume", "destroy", name, {"driver": "local"})

    async def prune(self, filters: Filters | None = None, *, everything: bool = False) -> VolumesPruneReport:
        """Remove volumes that no container holds: anonymous ones, ``everything``: those with a name, too. Never those
        with options: they stand for what lies elsewhere.

        Raises:
            InvalidArgument: a filter that there is not.
        """
        wanted = filters or Filters()
        _check_filters(wanted, _PRUNE_FILTERS)
        everything = everything or wanted.flag("all")
        gone, freed = [], 0
        for stored in self._records:
            name = stored.name
            if stored.options or not (everything or stored.anonymous) or not wanted.labels_match(stored.labels):
                continue
            if "label!" in wanted and wanted.labels_match(stored.labels, "label!"):
                continue
            async with self._lock(name):
                if name not in self._records or self._in_use(name):
                    continue
                size = await asyncio.to_thread(self._records.size, name)
                await self._remove(name)
            gone.append(name)
            freed += size
        self._events.publish("volume", "prune", "", {"reclaimed": str(freed)})
        return VolumesPruneReport(volumes_deleted=gone or None, space_reclaimed=freed)

    # Containers

    async def acquire(self, name: str, container_id: str, wanted: VolumeCreateRequest | None = None) -> str:
        """Let a container hold the volume, made when it is missing (as ``wanted`` says), mounted when it is a mount.
        Idempotent. Returns the directory to bind into the container.

        Raises:
            InvalidArgument: the name breaks a rule.
            EnxameError: the volume's device cannot be mounted.
        """
        async with self._lock(name):
            if name not in self._records:
                request = wanted or VolumeCreateRequest(name=name)
                _check_driver(request.driver, name)
                await self._create(name, request, anonymous=ANONYMOUS_LABEL in request.labels)
            await _blocking(f"mount {name}", lambda: self._records.take(name, container_id))
            return str(self._records.data(name))

    async def release(self, container_id: str) -> None:
        """The container no longer holds any volume; mounts that nobody holds any more are undone. Idempotent."""
        for name in [name for name, users in self._records.users.items() if container_id in users]:
            async with self._lock(name):
                if name not in self._records.users:
                    continue
                self._records.users[name].discard(container_id)
                await _blocking(f"unmount {name}", partial(self._records.give_back, name, container_id))

    async def reconcile(self, container_ids: set[str]) -> None:
        """Forget containers that are no more; the container engine calls it once it knows all of its own."""
        for gone in set().union(*self._records.users.values()) - container_ids:
            await self.release(gone)

    async def populate(self, name: str, source_dir: str, *, root: str | None = None) -> bool:
        """Copy the image's files into an empty volume, with owners, times and attributes. Returns whether it did.
        ``source_dir`` is the directory; with ``root`` it is a path as the container sees it, resolved inside ``root``,
        so that the image's links do not lead out of it.

        Raises:
            NotFound: no such volume.
            EnxameError: the disk refused; a volume that was empty is empty again.
        """
        async with self._lock(name):
            stored = self._get(name)
            # Nothing looks at the volume yet: it may be filled in one step.
            alone = not stored.options and len(self._records.users[name]) <= 1
            draft = self._records.draft() if alone else None
            holder = f"filling-{secrets.token_hex(6)}" if stored.options else ""
            try:
                if holder:
                    if not await asyncio.to_thread(has_source, source_dir, root):
                        return False
                    await _blocking(f"mount {name}", lambda: self._records.take(name, holder))
                return await fill(self._records.data(name), source_dir, root=root, draft=draft)
            except EnxameError as error:
                raise EnxameError(f"populate {name}: {error.message}") from error
            except OSError as error:
                raise EnxameError(f"populate {name}: {error}") from error
            finally:
                if holder:
                    self._records.users[name].discard(holder)
                    await _blocking(f"unmount {name}", lambda: self._records.give_back(name, holder))

    async def may_be_filled(self, name: str) -> bool:
        """Whether the volume is empty; one that is a mount may be: that shows when it is mounted."""
        stored = self._get(name)
        return bool(stored.options) or not await asyncio.to_thread(lambda: os.listdir(self._records.data(name)))

    # Inside

    def _get(self, name: str) -> StoredVolume:
        stored = self._records.get(name)
        if stored is None:
            raise NotFound(f"get {name}: no such volume")
        return stored

    def _view(self, stored: StoredVolume) -> Volume:
        return Volume(
            name=stored.name,
            created_at=stored.created_at,
            labels=stored.labels or None,
            options=stored.options or None,
            mountpoint=str(self._records.data(stored.name)),
        )

    def _in_use(self, name: str) -> builtins.list[str]:
        return sorted(self._records.users[name].union(self.holders(name)))

    def _lock(self, name: str) -> asyncio.Lock:
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock


def _check_driver(driver: str, name: str) -> None:
    if driver not in {"", "local", "default"}:
        raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')


def _check_filters(filters: Filters, accepted: frozenset[str]) -> None:
    for name in filters.values:
        if name not in accepted:
            raise InvalidArgument(f"invalid filter '{name}'")


async def _blocking(what: str, call: Callable[[], T]) -> T:
    try:
        return await to_the_end(call)
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        raise EnxameError(f"{what}:{place}: {(error.strerror or str(error)).lower()}") from error
