"""After a run: network, mounts, volumes and cgroups are given back, in a task that start, stop and remove wait for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import time

from enxame.engine import cgroups
from enxame.engine.bundle import SUBPATHS, cgroup_path
from enxame.engine.container import Container
from enxame.engine.runtime import RuntimeFailure
from enxame.engine.shared_memory import unmount_shm
from enxame.engine.subpaths import release_subpaths
from enxame.engine.surroundings import Surroundings
from enxame.errors import EnxameError

_log = logging.getLogger(__name__)
_KILL_DEADLINE = 10.0
#: Seconds for a runtime's process to end after the exec that it ran has.
_EXEC_DEADLINE = 5.0


class Cleanup:
    """One task a container at a time."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    def begin(self, container: Container) -> asyncio.Task[None]:
        """Start giving back what a run, or its preparation, holds; joins a cleanup that is under way."""
        container.created = None
        if container.cleanup is None or container.cleanup.done():
            container.cleanup = self._around.background.start(self._clean(container), f"clean {container.id[:12]}")
        return container.cleanup

    async def done(self, container: Container) -> None:
        """Return when nothing of the last run is left."""
        if container.cleanup is not None:
            await asyncio.shield(container.cleanup)
        elif container.condition.prepared and not container.running:
            await asyncio.shield(self.begin(container))

    async def _clean(self, container: Container) -> None:
        """Every step is idempotent; one that fails does not keep the others."""
        around = self._around
        await around.turns.wait()
        outcomes = await asyncio.gather(
            around.networks.release(container.id),
            around.volumes.release(container.id),
            self._clean_runtime(container),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                _log.error("cleaning up container %s: %s", container.id, outcome, exc_info=outcome)
        for mount in container.definition.mounts:
            if mount.type == "volume":
                attributes = {"container": container.id, "driver": mount.driver or "local"}
                around.events.publish("volume", "unmount", mount.name, attributes)
        container.unwatch()
        if not any(isinstance(outcome, BaseException) for outcome in outcomes):
            around.change(container, prepared=False, pid=0, monitor_pid=0)

    async def _clean_runtime(self, container: Container) -> None:
        path = cgroup_path(container.definition)
        quick = await asyncio.to_thread(self._forget_run, container.id, path)
        if not quick:
            await asyncio.to_thread(cgroups.thaw, self._around.machine.layout, path)
            with contextlib.suppress(RuntimeFailure):
                await self._around.runtime(container).delete(container.id)
            await asyncio.to_thread(self._kill_rest, container.id, path)
        await self._sweep_after_execs(container)
        if not container.file_users:  # the last of them unmounts it
            await self._around.images.unmount(container.id)

    async def _sweep_after_execs(self, container: Container) -> None:
        """What the last execs wrote into the bundle while it was being removed."""
        waiting = [asyncio.ensure_future(process.wait()) for process in container.exec_processes]
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=_EXEC_DEADLINE)
        for task in late:
            task.cancel()
        container.exec_processes = {process for process in container.exec_processes if not process.ended}
        await asyncio.to_thread(shutil.rmtree, self._around.bundle(container), ignore_errors=True)

    def _forget_run(self, container_id: str, cgroup: str) -> bool:
        """What the runtime's delete does for a container whose processes have all gone, without its process."""
        around = self._around
        layout = around.machine.layout
        if cgroups.processes(layout, cgroup) or not cgroups.remove(layout, cgroup):
            return False
        shutil.rmtree(around.runtimes.default.state_directory(container_id), ignore_errors=True)
        unmount_shm(around.bundles / container_id)
        release_subpaths(around.exec_root / SUBPATHS, container_id)
        shutil.rmtree(around.bundles / container_id, ignore_errors=True)
        (around.exits / container_id).unlink(missing_ok=True)
        return True

    def _kill_rest(self, container_id: str, cgroup: str) -> None:
        deadline = time.monotonic() + _KILL_DEADLINE
        while not self._forget_run(container_id, cgroup):
            for pid in cgroups.processes(self._around.machine.layout, cgroup):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise EnxameError(f"processes of container {container_id} do not end")
            time.sleep(0.005)  # the kernel has no word for "this cgroup v1 group is empty now"
