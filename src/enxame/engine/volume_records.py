"""Volumes as they lie on the disk, and who holds them. All of it blocks.

<name>/_data             the content
<name>/volume.json       labels, options, when it was made
<name>/users/<id>        one empty file a container that holds the volume
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from enxame.engine import mount_syscalls
from enxame.engine.durable_file import replace_file
from enxame.engine.volume_options import MountOptions, mount_options
from enxame.errors import EnxameError

__all__ = ["StoredVolume", "VolumeRecords"]

_log = logging.getLogger(__name__)
_TRASH: Final = ".trash"
_MS_BIND: Final = 0x1000


class StoredVolume(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a volume beside its content."""

    name: str
    created_at: datetime
    labels: dict[str, str]
    options: dict[str, str]
    anonymous: bool = False


class VolumeRecords:
    """Everything below ``root``. What raises OSError has changed nothing."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._volumes: dict[str, StoredVolume] = {}
        #: Ids of the containers that hold a volume, by its name.
        self.users: dict[str, set[str]] = {}

    def load(self) -> None:
        """Read what is there; what was half made or half removed goes."""
        self._root.mkdir(mode=0o711, parents=True, exist_ok=True)
        trash = self._root / _TRASH
        trash.mkdir(mode=0o700, exist_ok=True)
        for leftover in trash.iterdir():
            shutil.rmtree(leftover, ignore_errors=True)
        self._volumes.clear()
        self.users.clear()
        for home in self._root.iterdir():
            if home.name == _TRASH or not home.is_dir():
                continue
            try:
                stored = msgspec.json.decode((home / "volume.json").read_bytes(), type=StoredVolume)
            except (OSError, msgspec.DecodeError) as error:
                _log.error("volume %s is left alone, its description cannot be read: %s", home.name, error)
                continue
            self._volumes[stored.name] = stored
            self.users[stored.name] = {entry.name for entry in (home / "users").iterdir()}

    def get(self, name: str) -> StoredVolume | None:
        """The volume of that name, if there is one."""
        return self._volumes.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self._volumes

    def __iter__(self) -> Iterator[StoredVolume]:
        """All of them as they are now, by name."""
        return iter([stored for _, stored in sorted(self._volumes.items())])

    def data(self, name: str) -> Path:
        """The directory with a volume's content."""
        return self._root / name / "_data"

    def draft(self) -> Path:
        """A path for something that is not there for anybody yet; the next :meth:`load` removes what is left of it."""
        return self._root / _TRASH / secrets.token_hex(8)

    def make(self, stored: StoredVolume) -> None:
        """A new, empty volume."""
        draft = self.draft()
        draft.mkdir(mode=0o701)
        try:
            (draft / "_data").mkdir(mode=0o755)
            (draft / "users").mkdir(mode=0o700)
            replace_file(draft / "volume.json", msgspec.json.encode(stored))
            draft.rename(self._root / stored.name)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        self._volumes[stored.name] = stored
        self.users[stored.name] = set()

    def delete(self, name: str) -> None:
        """The volume with its content."""
        mount_syscalls.unmount(str(self.data(name)))
        grave = self.draft()
        (self._root / name).rename(grave)
        del self._volumes[name], self.users[name]
        shutil.rmtree(grave)

    def take(self, name: str, user: str) -> None:
        """Somebody holds the volume; it is mounted when it is a mount. Raises EnxameError when it cannot be."""
        options = mount_options(self._volumes[name].options)
        data = str(self.data(name))
        if options is not None and not mount_syscalls.is_mounted(data):
            _mount(options, data)
        (self._root / name / "users" / user).touch()
        self.users[name].add(user)

    def give_back(self, name: str, user: str) -> None:
        """He holds it no more, as :attr:`users` says already; a mount that nobody holds is undone."""
        (self._root / name / "users" / user).unlink(missing_ok=True)
        if not self.users[name] and self._volumes[name].options:
            mount_syscalls.unmount(str(self.data(name)))

    def size(self, name: str) -> int:
        """Bytes of the regular files in it; files that vanish meanwhile do not count."""
        total = 0
        for directory, _, names in os.walk(self.data(name), onerror=None):
            for file in names:
                try:
                    total += os.lstat(os.path.join(directory, file)).st_size
                except OSError:
                    continue
        return total


def _mount(options: MountOptions, target: str) -> None:
    try:
        if options.flags & _MS_BIND:
            mount_syscalls.bind(options.device, target, options.flags)
        else:
            mount_syscalls.mount(options.device, target, options.type, options.flags, options.data)
    except OSError as error:
        flags = f", flags: {options.flags:#x}" if options.flags else ""
        data = f", data: {options.data}" if options.data else ""
        raise EnxameError(
            f"error while mounting volume '{target}': failed to mount local volume: mount {options.device}:{target}"
            f"{flags}{data}: {(error.strerror or str(error)).lower()}"
        ) from error
