"""A container as it lies on disk: what it is (``config.json``, written once) and how it is (``state.json``).

A reader sees the old or the new text of either, never half of one.
"""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import field

from enxame.engine.mount_requests import MountRequest
from enxame.engine.page_file import read_record, replace, write_record
from enxame.engine.sandbox import SandboxInfo
from enxame.model.base import ZERO_TIME, Model
from enxame.model.container import ContainerConfig, EndpointSettings, HostConfig
from enxame.model.container_view import Health, MountPoint


class Definition(Model):
    """What a container is. ``config`` is completed from the image. ``parted``: it was taken off the last of its
    networks; with no other by its next start it is on that of its network mode again.
    """

    id: str
    name: str
    created: datetime
    config: ContainerConfig
    host: HostConfig
    image_id: str
    image: str
    networks: dict[str, EndpointSettings] = field(default_factory=dict)
    parted: bool = False
    mounts: list[MountRequest] = field(default_factory=list)
    log_driver: str = "json-file"


class Condition(Model):
    """How a container is. ``status``: created|running|restarting|exited|dead; ``paused`` beside running.

    ``pid_start``, ``monitor_start``: the processes' start in clock ticks since boot, which tells a process from a
    later one with its number. ``stopped_by_user``: restart policies leave it alone.
    """

    status: str = "created"
    paused: bool = False
    pid: int = 0
    pid_start: int = 0
    monitor_pid: int = 0
    monitor_start: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: datetime = ZERO_TIME
    finished_at: datetime = ZERO_TIME
    restart_count: int = 0
    stopped_by_user: bool = False
    sandbox: SandboxInfo | None = None
    mounts: list[MountPoint] = field(default_factory=list)
    health: Health | None = None
    #: The runtime has made it (or was about to): there may be something of it to clean up.
    prepared: bool = False


_encode = msgspec.json.Encoder().encode
_decode_definition = msgspec.json.Decoder(Definition).decode
_decode_condition = msgspec.json.Decoder(Condition).decode


class RecordStore:
    """The directory ``<data root>/containers``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o710)

    def directory(self, container_id: str) -> Path:
        """Where a container's records, logs and files are."""
        return self._root / container_id

    def define(self, definition: Definition) -> None:
        """Write a definition so that it survives a power cut."""
        directory = self.directory(definition.id)
        directory.mkdir(mode=0o710, exist_ok=True)
        replace(directory / "config.json", _encode(definition), durable=True)

    def save(self, container_id: str, condition: Condition) -> None:
        """Write a condition so that it survives our death at any moment; a power cut may lose it."""
        write_record(self.directory(container_id) / "state.json", _encode(condition))

    def load(self, container_id: str) -> tuple[Definition, Condition]:
        """Read a container back. A lost or damaged state counts as never started.

        Raises:
            ValueError: the definition is missing or damaged; says which file.
        """
        directory = self.directory(container_id)
        try:
            definition = _decode_definition((directory / "config.json").read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            raise ValueError(f"{directory / 'config.json'}: {error}") from error
        try:
            condition = _decode_condition(read_record(directory / "state.json"))
        except (OSError, msgspec.DecodeError):
            condition = Condition(prepared=True)
        return definition, condition

    def ids(self) -> list[str]:
        """Containers that have a directory."""
        return sorted(entry.name for entry in os.scandir(self._root) if entry.is_dir() and len(entry.name) == 64)

    def remove_litter(self) -> None:
        """Remove what deletions left that a crash interrupted, and creations that nobody was told of."""
        for container_id in self.ids():
            directory = self.directory(container_id)
            if not (directory / "config.json").exists():
                shutil.rmtree(directory, ignore_errors=True)

    def delete(self, container_id: str) -> None:
        """Forget a container: its definition first, so that a crash leaves litter, not half a container."""
        directory = self.directory(container_id)
        (directory / "config.json").unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)
