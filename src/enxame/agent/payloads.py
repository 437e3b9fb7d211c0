"""Secrets and configs as files for a task's container: on a tmpfs of this node, only while the task is here."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path
from threading import Lock
from typing import Final

from enxame.engine.mount_syscalls import MS_FLAGS, is_mounted, mount, unmount
from enxame.model.container import Mount
from enxame.model.secret import Config, Secret
from enxame.model.service import ContainerSpec, FileTarget
from enxame.model.task import Task

_MOUNT_FLAGS: Final = MS_FLAGS["nosuid"][0] | MS_FLAGS["nodev"][0] | MS_FLAGS["noexec"][0]


class PayloadFiles:
    """Files are written when the task is prepared and deleted with it. A tmpfs of its own is mounted on ``root`` with
    the first file and goes with the last: secrets never touch a disk, wherever the exec root lies.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._secrets: dict[str, Secret] = {}
        self._configs: dict[str, Config] = {}
        # Tasks are prepared and removed in several threads; the last file's removal unmounts.
        self._writing = Lock()

    def keep(self, secrets: list[Secret], configs: list[Config]) -> None:
        """Remember what the manager sent."""
        self._secrets.update({secret.id: secret for secret in secrets})
        self._configs.update({config.id: config for config in configs})

    def drop(self, secret_ids: list[str], config_ids: list[str]) -> None:
        """Forget what no task here needs any more."""
        for secret_id in secret_ids:
            self._secrets.pop(secret_id, None)
        for config_id in config_ids:
            self._configs.pop(config_id, None)

    def write(self, task: Task) -> list[Mount]:
        """Write the files of a task; the read-only mounts that show them in its container."""
        spec = task.spec.container_spec
        if spec is None or not (spec.secrets or spec.configs):
            return []
        with self._writing:
            self._ensure_tmpfs()
            return self._write_all(task.id, spec)

    def _write_all(self, task_id: str, spec: ContainerSpec) -> list[Mount]:
        mounts = []
        for secret_use in spec.secrets:
            target = secret_use.file or FileTarget(name=secret_use.secret_name)
            secret = self._secrets.get(secret_use.secret_id)
            if secret is not None:
                path = _inside(target.name, "/run/secrets")
                mounts.append(self._write_one(task_id, secret.id, secret.spec.data, target, path))
        for config_use in spec.configs:
            config = self._configs.get(config_use.config_id)
            if config is not None and config_use.file is not None:
                path = _inside(config_use.file.name, "/")
                mounts.append(self._write_one(task_id, config.id, config.spec.data, config_use.file, path))
        return mounts

    def remove(self, task_id: str) -> None:
        """Delete a task's files."""
        if not (self._root / task_id).is_dir():
            return
        with self._writing:
            shutil.rmtree(self._root / task_id, ignore_errors=True)
            if not any(self._root.iterdir()):
                unmount(str(self._root))

    def _ensure_tmpfs(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not is_mounted(str(self._root)):
            mount("tmpfs", str(self._root), "tmpfs", _MOUNT_FLAGS, "mode=0700")

    def _write_one(self, task_id: str, object_id: str, data: str, target: FileTarget, where: str) -> Mount:
        directory = self._root / task_id
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = directory / object_id
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400)
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64decode(data))
        os.chown(path, int(target.uid or 0), int(target.gid or 0))
        path.chmod(target.mode)
        return Mount(type="bind", source=str(path), target=where, read_only=True)


def _inside(name: str, default_directory: str) -> str:
    return name if name.startswith("/") else f"{default_directory.rstrip('/')}/{name}"
