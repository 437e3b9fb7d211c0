"""After a restart of the daemon: running containers are adopted, ended ones get their exit codes, litter goes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from pathlib import Path

from msgspec.structs import replace

from enxame.engine import restart_policy
from enxame.engine.bundle import SUBPATHS
from enxame.engine.container import Container, process_start
from enxame.engine.container_table import ContainerTable
from enxame.engine.lifecycle import Lifecycle
from enxame.engine.sandbox import SandboxInfo
from enxame.engine.subpaths import release_subpaths, subpath_holders
from enxame.errors import EnxameError, NotModified

_log = logging.getLogger(__name__)


async def restore(life: Lifecycle, table: ContainerTable) -> None:
    """Fill the table from disk and bring it in line with what really runs."""
    records, exec_root = life.around.records, life.around.exec_root
    adopted: list[Container] = []
    ended: list[Container] = []
    records.remove_litter()
    for container_id in records.ids():
        try:
            definition, condition = records.load(container_id)
        except ValueError as error:
            _log.error("container %s cannot be read back, it is left alone: %s", container_id, error)
            continue
        container = Container(definition, condition)
        table.add(container)
        exit_file = exec_root / "exits" / container_id
        alive = condition.pid > 0 and process_start(condition.pid) == condition.pid_start != 0
        monitored = condition.monitor_pid > 0 and process_start(condition.monitor_pid) == condition.monitor_start != 0
        code = life.around.left_exit_code(container_id)
        if condition.status == "running" and alive and monitored and code is None:
            adopted.append(container)
            continue
        if condition.status in {"running", "restarting"}:
            if alive and code is None:
                _log.warning("container %s runs without its monitor: ending it", container_id)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(condition.pid, 9)
                code = 137
            if condition.status == "running":
                container.condition = life.restored_condition(condition, code, exit_file)
            else:
                container.condition = replace(condition, status="exited")
            records.save(container_id, container.condition)
        ended.append(container)
    for container in adopted:
        try:
            await life.around.networks.restore(container.id, container.condition.sandbox or SandboxInfo())
        except (EnxameError, OSError) as error:
            _log.error("the network of container %s could not be restored: %s", container.id, error)
        life.adopt(container)
    await _remove_litter(exec_root, table.by_id)
    await _settle(life, ended)


async def _settle(life: Lifecycle, ended: list[Container]) -> None:
    await asyncio.gather(*(life.cleanup.done(container) for container in ended), return_exceptions=True)
    for container in ended:
        host = container.definition.host
        if host.auto_remove and container.condition.status == "exited":
            life.around.background.start(_remove(life, container), f"remove {container.id[:12]}")
        elif container.condition.status == "exited" and restart_policy.starts_with_daemon(
            host.restart_policy, stopped_by_user=container.condition.stopped_by_user
        ):
            life.around.background.start(_start(life, container), f"start {container.id[:12]}")


async def _start(life: Lifecycle, container: Container) -> None:
    async with container.lock:
        try:
            await life.start(container)
        except NotModified:
            return
        except EnxameError as error:
            _log.error("container %s could not be started: %s", container.id, error)


async def _remove(life: Lifecycle, container: Container) -> None:
    async with container.lock:
        await life.remove(container, anonymous_volumes=True)


async def _remove_litter(exec_root: Path, containers: dict[str, Container]) -> None:
    def sweep() -> None:
        for holder in subpath_holders(exec_root / SUBPATHS):
            if holder not in containers:
                release_subpaths(exec_root / SUBPATHS, holder)
        for directory in (exec_root / "containers", exec_root / "exits"):
            for entry in os.scandir(directory):
                if entry.name not in containers:
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path, ignore_errors=True)
                    else:
                        with contextlib.suppress(OSError):
                            os.unlink(entry.path)

    await asyncio.to_thread(sweep)
