"""A container's life: prepare, start, end, clean up, remove. The steps; what a user may ask is in ``containers``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace

from enxame.engine import cgroups, restart_policy
from enxame.engine.background import BackgroundTasks
from enxame.engine.bundle import Machine, Written, cgroup_path, hostname_of, write_bundle
from enxame.engine.container import Container, process_start
from enxame.engine.container_record import Condition, Definition, RecordStore
from enxame.engine.events import EventBus
from enxame.engine.image_defaults import as_list
from enxame.engine.ports import Images, Networks, Volumes
from enxame.engine.runtime import Created, MonitorOptions, Runtime, RuntimeFailure
from enxame.engine.runtime_errors import start_failure
from enxame.engine.sandbox import SandboxInfo, SandboxRequest
from enxame.engine.shared_memory import unmount_shm
from enxame.errors import Conflict, EnxameError, NotModified
from enxame.model.base import ZERO_TIME

_log = logging.getLogger(__name__)

#: Containers that are being made at the same time: more only wait for each other in the kernel's cgroup lock.
_PARALLEL_CREATES = 8
KILLED = 137
#: The exit code of a container whose end nobody saw (a reboot).
UNSEEN = 255
_KILL_DEADLINE = 10.0
#: How long an attached client may take to read a container's last words, in seconds.
_STALLED_CLIENT = 2.0


def _now() -> datetime:
    return datetime.now(UTC)


class Lifecycle:
    """The steps. ``find`` gives another container by reference, ``forget`` drops one from the table."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        records: RecordStore,
        exec_root: Path,
        machine: Machine,
        images: Images,
        volumes: Volumes,
        networks: Networks,
        events: EventBus,
        find: Callable[[str], Container],
        forget: Callable[[Container], None],
        started: Callable[[Container], None],
    ) -> None:
        self._runtime = runtime
        self._records = records
        self._bundles = exec_root / "containers"
        self._exits = exec_root / "exits"
        self._machine = machine
        self._images, self._volumes, self._networks = images, volumes, networks
        self._events = events
        self._find, self._forget, self._started = find, forget, started
        self._creates = asyncio.Semaphore(_PARALLEL_CREATES)
        self.background = BackgroundTasks()
        self.stopping = False

    def bundle(self, container: Container) -> Path:
        """Where the runtime finds a container and where its sockets are."""
        return self._bundles / container.id

    def change(self, container: Container, **changes: object) -> None:
        """Change a container's condition and write it."""
        container.condition = replace(container.condition, **changes)
        self._records.save(container.id, container.condition)

    def publish(self, container: Container, action: str, **attributes: str) -> None:
        """Tell of a container."""
        definition = container.definition
        labels = definition.config.labels
        described = {**labels, "image": definition.image, "name": definition.name, **attributes}
        self._events.publish("container", action, definition.id, described)

    # -- prepare and start

    async def prepare(self, container: Container) -> None:
        """Everything but the start of the process. The caller holds the lock. Idempotent.

        Raises:
            EnxameError: it cannot be done; nothing is left behind, the container shows why.
        """
        if container.created is not None or container.running:
            return
        await self.cleaned(container)
        self.change(container, prepared=True, error="")
        try:
            async with self._creates:
                container.created = await self._make(container)
        except BaseException as error:
            if isinstance(error, EnxameError):
                code = getattr(error, "exit_code", 128)
                self.change(container, error=error.message, exit_code=code)
            await asyncio.shield(self._begin_cleanup(container))
            raise

    async def _make(self, container: Container) -> Created:
        definition = container.definition
        image = self._images.resolve(definition.image_id)
        rootfs, sandbox, volumes = await _all_or_first_error(
            self._images.mount(container.id, image), self._connect(container), self._acquire(container)
        )
        bundle = self.bundle(container)
        while True:
            written = await asyncio.to_thread(
                write_bundle,
                definition,
                directory=self._records.directory(container.id),
                bundle=bundle,
                rootfs=rootfs,
                sandbox=sandbox,
                volumes=volumes,
                machine=self._machine,
                find=self._find_definition,
                filters=self._runtime.seccomp_cache,
            )
            created = await self._create(container, bundle)
            if self._is_confined(container, written):
                break
            _log.warning("%s takes no compiled seccomp filter: compiling one for each container", self._runtime.name)
            await self._runtime.delete(container.id)
        container.condition = replace(container.condition, sandbox=sandbox, mounts=written.mounts)
        # Written before the start, so that a daemon that dies now finds the processes.
        self.change(
            container,
            pid=created.pid,
            pid_start=process_start(created.pid),
            monitor_pid=created.monitor_pid,
            monitor_start=process_start(created.monitor_pid),
        )
        return created

    def _find_definition(self, ref: str) -> tuple[Definition, int]:
        other = self._find(ref)
        return other.definition, other.condition.pid

    async def _create(self, container: Container, bundle: Path) -> Created:
        definition = container.definition
        options = MonitorOptions(
            container_id=container.id,
            name=definition.name,
            bundle=bundle,
            exit_directory=self._exits,
            log="none" if definition.log_driver == "none" else f"k8s-file:{self.log_path(container)}",
            terminal=definition.config.tty,
            stdin=definition.config.open_stdin,
            stdin_once=definition.config.stdin_once,
        )
        (self._exits / container.id).unlink(missing_ok=True)
        if (namespace := self._runtime.namespace) is not None:
            await namespace.make_visible([mount.source for mount in definition.mounts if mount.type == "bind"])
        try:
            return await self._runtime.create(options)
        except (RuntimeFailure, OSError) as error:
            raise self._failure(container, str(error)) from error

    def _is_confined(self, container: Container, written: Written) -> bool:
        """Whether a compiled filter that the runtime was given is in force; learns one that it compiled itself."""
        cache = self._runtime.seccomp_cache
        if cache is None or not written.filter_key:
            return True
        if written.given:
            return cache.taken(written.filter_key, container.id)
        cache.learn(written.filter_key, container.id)
        return True

    def _failure(self, container: Container, said: str) -> EnxameError:
        config = container.definition.config
        program = next(iter([*as_list(config.entrypoint), *as_list(config.cmd)]), "")
        failure = start_failure(said, program, self._runtime.name)
        failure.error.exit_code = failure.exit_code  # type: ignore[attr-defined]
        return failure.error

    async def _connect(self, container: Container) -> SandboxInfo:
        definition = container.definition
        host = definition.host
        kind, _, other = host.network_mode.partition(":")
        if kind == "container":
            owner = self._find(other)
            if not owner.running:
                raise Conflict(f"cannot join network of a non running container: {owner.id}")
            shared = owner.condition.sandbox or SandboxInfo()
            return SandboxInfo(
                netns_path=f"/proc/{owner.condition.pid}/ns/net", hosts=shared.hosts, resolv_conf=shared.resolv_conf
            )
        return await self._networks.connect(
            container.id,
            SandboxRequest(
                name=definition.name,
                hostname=hostname_of(definition),
                domainname=definition.config.domainname,
                network_mode=host.network_mode,
                endpoints=definition.networks,
                port_bindings=host.port_bindings,
                exposed_ports=list(definition.config.exposed_ports),
                publish_all=host.publish_all_ports,
                dns=host.dns,
                dns_search=host.dns_search,
                dns_options=host.dns_options,
                extra_hosts=host.extra_hosts or [],
                sysctls=host.sysctls,
            ),
        )

    async def _acquire(self, container: Container) -> dict[str, str]:
        return {
            mount.name: await self._volumes.acquire(mount.name, container.id)
            for mount in container.definition.mounts
            if mount.type == "volume"
        }

    def log_path(self, container: Container) -> Path:
        """The container's log in conmon's format."""
        return self._records.directory(container.id) / "container.log"

    async def start(self, container: Container) -> None:
        """Run a container that does not. The caller holds the lock.

        Raises:
            NotModified: it runs already.
            EnxameError: it could not be started; the container shows why.
        """
        if container.condition.paused:
            raise Conflict("cannot start a paused container, try unpause instead")
        if container.running:
            raise NotModified
        if container.removing or container.condition.status == "dead":
            raise Conflict("container is marked for removal and cannot be started")
        try:
            await self.prepare(container)
        except BaseException:
            self._leave(container)
            raise
        created = container.created
        assert created is not None  # prepare's promise
        container.starting = True
        try:
            self._watch(container, created)
            self._join(container)
            try:
                await self._runtime.start(container.id)
            except (RuntimeFailure, OSError) as error:
                failure = self._failure(container, str(error))
                self.change(container, error=failure.message, exit_code=getattr(failure, "exit_code", 128))
                container.starting = False
                await asyncio.shield(self._begin_cleanup(container))
                raise failure from error
            container.started_mono = time.monotonic()
            self.change(
                container,
                status="running",
                paused=False,
                exit_code=0,
                error="",
                oom_killed=False,
                started_at=_now(),
                finished_at=ZERO_TIME,
                stopped_by_user=False,
            )
            container.created = None
            container.adopted = False
        finally:
            container.starting = False
        self.publish(container, "start")
        self._started(container)
        # It may have ended before we said that it runs.
        self.exit_appeared(container)

    def _join(self, container: Container) -> None:
        """Let clients that came before the start in, so that they miss nothing."""
        waiting, container.joining = container.joining, []
        for attachment in waiting:
            try:
                attachment.connect(self.bundle(container))
            except OSError as error:
                _log.error("a client cannot be attached to container %s: %s", container.id, error)
                attachment.abandon()

    def _leave(self, container: Container) -> None:
        waiting, container.joining = container.joining, []
        for attachment in waiting:
            attachment.abandon()

    def _watch(self, container: Container, created: Created) -> None:
        loop = asyncio.get_running_loop()
        ended, monitor_ended = loop.create_future(), loop.create_future()
        ended.add_done_callback(lambda _: self._process_ended(container))
        monitor_ended.add_done_callback(lambda _: self._monitor_ended(container, created))
        try:
            container.watch(created, ended, monitor_ended)
        except ProcessLookupError:
            monitor_ended.set_result(None)

    def adopt(self, container: Container) -> None:
        """Go on with a container that runs since before this daemon."""
        condition = container.condition
        container.adopted = True
        ran_for = (_now() - condition.started_at).total_seconds()
        container.started_mono = time.monotonic() - max(ran_for, 0.0)
        self._watch(container, Created(condition.pid, condition.monitor_pid))
        self._started(container)
        self.exit_appeared(container)

    # -- the end

    def exit_appeared(self, container: Container) -> None:
        """Look whether the monitor has left an exit code, and if so end the run."""
        if container.starting or not (container.running or container.created is not None):
            return
        code = self.left_exit_code(container.id)
        if code is not None:
            self._ended(container, code)

    def left_exit_code(self, container_id: str) -> int | None:
        """What the monitor wrote when the container ended; None while it has not."""
        try:
            return int((self._exits / container_id).read_text())
        except (OSError, ValueError):
            return None

    def _process_ended(self, container: Container) -> None:
        """The process has gone; the monitor says with which code, unless a client that does not read holds it up."""
        if container.attached and not self.stopping:
            loop = asyncio.get_running_loop()
            loop.call_later(_STALLED_CLIENT, self._drop_clients, container, container.condition.pid)

    def _drop_clients(self, container: Container, pid: int) -> None:
        if container.running and container.condition.pid == pid:
            for attachment in list(container.attached):
                attachment.drop()

    def _monitor_ended(self, container: Container, created: Created) -> None:
        """The monitor has gone: after the container's end in the ordinary run of things, or killed."""
        if created.pid != container.condition.pid or self.stopping:
            return
        code = self.left_exit_code(container.id)
        if code is not None:
            self.exit_appeared(container)
        elif container.running:
            _log.warning("the monitor of container %s was killed: ending the container", container.id)
            container.signal(signal.SIGKILL)
            self._ended(container, KILLED, error="the container's monitor (conmon) was killed")

    def _ended(self, container: Container, code: int, error: str = "") -> None:
        was_running = container.running
        container.unwatch()
        container.created = None
        oom = cgroups.was_out_of_memory(self._machine.layout, cgroup_path(container.definition))
        ran_for = time.monotonic() - container.started_mono
        if container.health is not None:
            container.health.cancel()
            container.health = None
        self.change(
            container,
            status="exited" if was_running else container.condition.status,
            paused=False,
            exit_code=code,
            error=error,
            oom_killed=oom,
            finished_at=_now(),
        )
        cleanup = self._begin_cleanup(container)
        if not was_running:
            return
        if oom:
            self.publish(container, "oom")
        self.publish(container, "die", exitCode=str(code), execDuration=str(int(ran_for)))
        self._after_end(container, code, ran_for)
        container.tell_ended(code)
        _ = cleanup

    def _after_end(self, container: Container, code: int, ran_for: float) -> None:
        condition, host = container.condition, container.definition.host
        if self.stopping or container.removing:
            return
        if restart_policy.restarts(
            host.restart_policy,
            exit_code=code,
            stopped_by_user=condition.stopped_by_user,
            count=condition.restart_count,
        ):
            container.restart_delay = restart_policy.next_delay(container.restart_delay, ran_for)
            self.change(container, status="restarting", restart_count=condition.restart_count + 1)
            container.restart = self.background.start(
                self._restart_later(container, container.restart_delay), f"restart {container.id[:12]}"
            )
        elif host.auto_remove:
            self.background.start(self._remove_ended(container), f"remove {container.id[:12]}")

    async def _restart_later(self, container: Container, delay: float) -> None:
        await asyncio.sleep(delay)
        async with container.lock:
            if container.condition.status != "restarting":
                return
            try:
                await self.start(container)
            except EnxameError as error:
                _log.warning("container %s could not be restarted: %s", container.id, error)
                self.change(container, status="exited")

    async def _remove_ended(self, container: Container) -> None:
        async with container.lock:
            if not container.running and not container.removing:
                await self.remove(container, anonymous_volumes=True)

    def _begin_cleanup(self, container: Container) -> asyncio.Task[None]:
        container.created = None
        if container.cleanup is None or container.cleanup.done():
            container.cleanup = self.background.start(self._clean(container), f"clean {container.id[:12]}")
        return container.cleanup

    async def discard(self, container: Container) -> None:
        """Give back what :meth:`prepare` made. The caller holds the lock."""
        container.signal(signal.SIGKILL)
        await asyncio.shield(self._begin_cleanup(container))

    async def cleaned(self, container: Container) -> None:
        """Return when nothing of the last run is left."""
        if container.cleanup is not None:
            await asyncio.shield(container.cleanup)
        elif container.condition.prepared and not container.running:
            await asyncio.shield(self._begin_cleanup(container))

    async def _clean(self, container: Container) -> None:
        """Give everything of a run back. Every step is idempotent; one that fails does not keep the others."""
        outcomes = await asyncio.gather(
            self._networks.release(container.id),
            self._volumes.release(container.id),
            self._clean_runtime(container),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                _log.error("cleaning up container %s: %s", container.id, outcome, exc_info=outcome)
        container.unwatch()
        if not any(isinstance(outcome, BaseException) for outcome in outcomes):
            self.change(container, prepared=False, pid=0, monitor_pid=0)

    async def _clean_runtime(self, container: Container) -> None:
        path = cgroup_path(container.definition)
        quick = await asyncio.to_thread(self._forget_run, container.id, path)
        if not quick:
            with contextlib.suppress(RuntimeFailure):
                await self._runtime.delete(container.id)
            await asyncio.to_thread(self._kill_rest, container.id, path)
        await self._images.unmount(container.id)

    def _forget_run(self, container_id: str, cgroup: str) -> bool:
        """What the runtime's delete does for a container whose processes have all gone, without its process."""
        layout = self._machine.layout
        if cgroups.processes(layout, cgroup) or not cgroups.remove(layout, cgroup):
            return False
        shutil.rmtree(self._runtime.state_directory(container_id), ignore_errors=True)
        unmount_shm(self._bundles / container_id)
        shutil.rmtree(self._bundles / container_id, ignore_errors=True)
        (self._exits / container_id).unlink(missing_ok=True)
        return True

    def _kill_rest(self, container_id: str, cgroup: str) -> None:
        deadline = time.monotonic() + _KILL_DEADLINE
        while not self._forget_run(container_id, cgroup):
            for pid in cgroups.processes(self._machine.layout, cgroup):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise EnxameError(f"processes of container {container_id} do not end")
            time.sleep(0.005)  # the kernel has no word for "this cgroup v1 group is empty now"

    async def stop(self, container: Container, number: int, timeout: float | None) -> None:
        """End a running container: ``number`` first, SIGKILL after ``timeout`` seconds (None: never)."""
        ended = container.ended()
        container.signal(number)
        self.publish(container, "kill", signal=str(number))
        if container.condition.paused:
            await self._runtime.resume(container.id)
            self.change(container, paused=False)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(ended)
        except TimeoutError:
            await self.kill(container)
        await self.cleaned(container)

    async def kill(self, container: Container) -> None:
        """SIGKILL, and wait for the end. Raises EnxameError when the kernel does not let it end."""
        ended = container.ended()
        container.signal(signal.SIGKILL)
        self.publish(container, "kill", signal=str(int(signal.SIGKILL)))
        try:
            async with asyncio.timeout(_KILL_DEADLINE):
                await asyncio.shield(ended)
        except TimeoutError as error:
            raise EnxameError(
                f"container {container.id} PID {container.condition.pid} is zombie and can not be killed. "
                "Use the --init option when creating containers to run an init inside the container that forwards "
                "signals and reaps processes"
            ) from error

    async def remove(self, container: Container, *, anonymous_volumes: bool) -> None:
        """Remove a container that does not run. The caller holds the lock."""
        container.removing = True
        try:
            if container.restart is not None:
                container.restart.cancel()
            await self.cleaned(container)
            await self._images.delete_layer(container.id)
            if anonymous_volumes:
                await self._remove_volumes(container)
            await asyncio.to_thread(self._records.delete, container.id)
        except BaseException:
            container.removing = False
            raise
        self._leave(container)
        self._forget(container)
        self.publish(container, "destroy")
        container.tell_removed()

    async def _remove_volumes(self, container: Container) -> None:
        for mount in container.definition.mounts:
            if mount.type == "volume" and mount.anonymous:
                try:
                    await self._volumes.remove(mount.name)
                except EnxameError as error:  # somebody else uses it by now
                    _log.info("volume %s stays: %s", mount.name, error)

    def restored_condition(self, condition: Condition, code: int | None, exit_file: Path) -> Condition:
        """The condition of a container that ended while no daemon ran."""
        with contextlib.suppress(OSError):
            finished = datetime.fromtimestamp(exit_file.stat().st_mtime, UTC)
            return replace(condition, status="exited", paused=False, exit_code=code or 0, finished_at=finished)
        code = UNSEEN if code is None else code
        return replace(condition, status="exited", paused=False, exit_code=code, finished_at=_now())


async def _all_or_first_error(
    rootfs: Awaitable[str], sandbox: Awaitable[SandboxInfo], volumes: Awaitable[dict[str, str]]
) -> tuple[str, SandboxInfo, dict[str, str]]:
    """Run the three side by side to their ends; the first error is raised when none runs any more."""
    outcomes = await asyncio.gather(rootfs, sandbox, volumes, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return outcomes  # type: ignore[return-value]
