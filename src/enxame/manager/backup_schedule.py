"""Backups that the leader makes by itself, and how many of them are kept."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from enxame.backup.files import Secret
from enxame.errors import EnxameError, InvalidArgument, NotFound
from enxame.manager.backups import BackupControl
from enxame.model.backup import BackupSchedule, BackupStatus
from enxame.model.base import ObjectVersion
from enxame.model.cluster import NANOSECONDS, Cluster
from enxame.store.interface import Tx, View
from enxame.store.store import Store
from enxame.store.watch import WatchLagged

__all__ = ["BackupSchedules", "file_name", "surplus", "time_of"]

log = logging.getLogger(__name__)

SHORTEST: Final = NANOSECONDS
#: After a failure the next try comes sooner than the next backup: seconds.
FIRST_RETRY: Final = 10.0
#: A manager that does not lead looks so often whether it does by now: seconds.
LOOK: Final = 2.0
_TIME: Final = "%Y%m%dT%H%M%SZ"
_NAME: Final = re.compile(r"swarm-(?P<cluster>[a-z0-9]+)-(?P<time>\d{8}T\d{6}Z)\.backup")


def file_name(cluster_id: str, time: datetime) -> str:
    """What a backup of this moment (UTC) is called."""
    return f"swarm-{cluster_id}-{time.strftime(_TIME)}.backup"


def time_of(name: str, cluster_id: str) -> datetime | None:
    """When the swarm's backup of this name was made; None for anything else."""
    match = _NAME.fullmatch(name)
    if match is None or match["cluster"] != cluster_id:
        return None
    try:
        return datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def surplus(names: Iterable[str], cluster_id: str, keep: int, newest: str = "") -> list[str]:
    """Names of the swarm's own backups that are beyond the newest ``keep``; with 0 none is. ``newest`` is the newest
    whatever the times say: the clock may have been set back.
    """
    own = sorted(name for name in names if time_of(name, cluster_id) is not None and name != newest)
    most = keep - 1 if newest else keep
    return own[: max(len(own) - most, 0)] if keep else []


def validate(schedule: BackupSchedule) -> None:
    """Raises InvalidArgument on what cannot be a schedule."""
    if not schedule.directory:
        raise InvalidArgument("a schedule of backups needs a directory")
    if not os.path.isabs(schedule.directory):
        raise InvalidArgument(f"the directory of backups must be an absolute path: {schedule.directory}")
    if schedule.every < SHORTEST:
        raise InvalidArgument("backups are at least 1s apart")
    if schedule.keep < 0:
        raise InvalidArgument("the number of backups to keep cannot be negative")
    if schedule.key_file and not os.path.isabs(schedule.key_file):
        raise InvalidArgument(f"the key file of backups must be an absolute path: {schedule.key_file}")


class BackupSchedules:
    """One per manager: :meth:`run` must be running. ``leads``: whether this manager does."""

    def __init__(
        self, store: Store, backups: BackupControl, *, wall: Callable[[], datetime], leads: Callable[[], bool]
    ) -> None:
        self._store = store
        self._backups = backups
        self._wall = wall
        self._leads = leads
        self._status = BackupStatus()

    def status(self) -> BackupStatus:
        """What there is to know, on the manager that leads."""
        return replace(self._status, schedule=_cluster(self._store.view).backup_schedule)

    def warnings(self) -> list[str]:
        """For ``info``: what should worry the user."""
        cluster = next(iter(self._store.view.all(Cluster)), None)
        if cluster is None or cluster.backup_schedule is None:
            return []
        told = []
        if self._status.error:
            told.append(f"WARNING: No backup of the swarm could be made at {self._status.failed}: {self._status.error}")
        if cluster.spec.encryption_config.auto_lock_managers and not cluster.backup_schedule.key_file:
            told.append("WARNING: Managers lock themselves, but backups are not encrypted: set --backup-key-file")
        return told

    async def set(self, version: int, schedule: BackupSchedule | None) -> None:
        """Change the schedule; None: no more backups.

        Raises:
            InvalidArgument: it cannot work, as far as this machine can tell.
            EnxameError: ``update out of sequence``.
        """
        if schedule is not None:
            validate(schedule)
            await asyncio.to_thread(_try_out, schedule)

        def change(tx: Tx) -> None:
            cluster = replace(_cluster(tx), version=ObjectVersion(index=version), backup_schedule=schedule)
            tx.update(cluster)

        await self._store.update(change)

    async def run(self) -> None:
        """Make backups when they are due, until cancelled."""
        retry = FIRST_RETRY
        before: BackupSchedule | None = None
        wait = 0.0
        while True:
            cluster = next(iter(self._store.view.all(Cluster)), None)
            schedule = cluster.backup_schedule if cluster is not None else None
            if schedule != before:
                before, retry = schedule, FIRST_RETRY
                self._status = BackupStatus()
            if cluster is None or schedule is None or not self._leads():
                await self._changed(schedule, LOOK)
                continue
            wait = await asyncio.to_thread(self._seconds_left, cluster.id, schedule)
            if wait > 0:
                self._status = replace(self._status, next=_text(self._wall() + timedelta(seconds=wait)))
                if await self._changed(schedule, min(wait, _seconds(schedule))):
                    continue
            if await self._make(cluster.id, schedule):
                retry = FIRST_RETRY
            else:
                await self._changed(schedule, min(retry, _seconds(schedule)))
                retry *= 2

    async def _make(self, cluster_id: str, schedule: BackupSchedule) -> bool:
        now = self._wall()
        path = Path(schedule.directory) / file_name(cluster_id, now)
        try:
            secret = await asyncio.to_thread(_prepare, schedule)
            head = await self._backups.write(path, secret)
            removed = await asyncio.to_thread(_remove_surplus, path, cluster_id, schedule.keep)
        except (EnxameError, OSError) as error:
            reason = str(error)
            log.error("the swarm's scheduled backup failed: %s", reason)
            failures = self._status.failures + 1
            self._status = replace(self._status, failed=_text(now), error=reason, failures=failures, next="")
            return False
        log.info("backed the swarm up in %s at revision %d; removed %d old ones", path, head.revision, removed)
        self._status = replace(
            self._status, last=_text(now), last_file=str(path), error="", failed="", made=self._status.made + 1
        )
        return True

    def _seconds_left(self, cluster_id: str, schedule: BackupSchedule) -> float:
        """Until the next backup, judged by the newest one there is: also after a restart, or on another manager."""
        try:
            names = os.listdir(schedule.directory)
        except OSError:
            return 0.0  # it is made, or the next try tells what is wrong
        times = [time for name in names if (time := time_of(name, cluster_id)) is not None]
        if not times:
            return 0.0
        newest = max(times)
        path = os.path.join(schedule.directory, file_name(cluster_id, newest))
        self._status = replace(self._status, last=_text(newest), last_file=path)
        passed = (self._wall() - newest).total_seconds()
        # One of the future tells that the clock was set back: it is as good as none.
        return _seconds(schedule) - passed if passed >= 0 else 0.0

    async def _changed(self, schedule: BackupSchedule | None, within: float) -> bool:
        """Wait; True as soon as the schedule is another one."""
        try:
            async with asyncio.timeout(within), self._store.watch(Cluster) as watch:
                while True:
                    cluster = next(iter(self._store.view.all(Cluster)), None)
                    if cluster is None or cluster.backup_schedule != schedule:
                        return True
                    await watch.next()
        except TimeoutError:
            return False
        except WatchLagged:
            return True


def _cluster(view: View) -> Cluster:
    cluster = next(iter(view.all(Cluster)), None)
    if cluster is None:
        raise NotFound("This node is not part of a swarm")
    return cluster


def _seconds(schedule: BackupSchedule) -> float:
    return schedule.every / NANOSECONDS


def _text(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


def _prepare(schedule: BackupSchedule) -> Secret | None:
    Path(schedule.directory).mkdir(mode=0o700, parents=True, exist_ok=True)
    return Secret.from_key_file(Path(schedule.key_file)) if schedule.key_file else None


def _try_out(schedule: BackupSchedule) -> None:
    try:
        _prepare(schedule)
    except OSError as error:
        raise InvalidArgument(f"backups cannot be kept in {schedule.directory}: {error.strerror}") from error
    if not os.access(schedule.directory, os.W_OK | os.X_OK):
        raise InvalidArgument(f"backups cannot be kept in {schedule.directory}: permission denied")


def _remove_surplus(newest: Path, cluster_id: str, keep: int) -> int:
    names = surplus(os.listdir(newest.parent), cluster_id, keep, newest.name)
    for name in names:
        newest.with_name(name).unlink(missing_ok=True)
    return len(names)
