"""The containers of this machine: what a client may ask of them. The steps behind it are in ``lifecycle``."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

from msgspec.structs import replace

from enxame.engine import container_view, create_request, naming, usage
from enxame.engine.attachment import Attachment
from enxame.engine.bundle import Machine
from enxame.engine.container import Container
from enxame.engine.container_record import Condition, RecordStore
from enxame.engine.events import EventBus
from enxame.engine.execs import Execs
from enxame.engine.exit_watch import DirectoryWatch
from enxame.engine.health import probe_of
from enxame.engine.health_monitor import watch_health
from enxame.engine.lifecycle import Lifecycle
from enxame.engine.mount_requests import MountRequest
from enxame.engine.ports import Images, Networks, Volumes
from enxame.engine.restoration import restore
from enxame.engine.runtime import Runtime
from enxame.engine.signals import parse_signal
from enxame.engine.streams import Streams
from enxame.engine.volumes import ANONYMOUS_LABEL
from enxame.errors import Conflict, EnxameError, InvalidArgument, NotFound, NotModified
from enxame.model.container import ContainerCreateRequest
from enxame.model.container_view import (
    ContainerCreateResponse,
    ContainerInspect,
    ContainerSummary,
    Health,
    TopResult,
    WaitError,
    WaitResult,
)
from enxame.model.exec import ExecCreateRequest, ExecInspect
from enxame.model.filters import Filters
from enxame.model.stats import ContainerStats
from enxame.model.stream import AttachOptions, LogOptions, LogRecord
from enxame.model.volume import VolumeCreateRequest

_DEFAULT_STOP_TIMEOUT = 10.0


class ContainerManager:
    """``ref`` is a full id, a name or a unique id prefix; unknown ones raise NotFound ``No such container: X``."""

    def __init__(
        self,
        *,
        data_root: Path,
        exec_root: Path,
        runtime: Runtime,
        machine: Machine,
        images: Images,
        volumes: Volumes,
        networks: Networks,
        events: EventBus,
    ) -> None:
        self._records = RecordStore(data_root / "containers")
        self._exec_root = exec_root
        self._images, self._networks, self._volumes = images, networks, volumes
        self._machine = machine
        self._runtime = runtime
        self._containers: dict[str, Container] = {}
        self._names: dict[str, str] = {}
        self._watch: DirectoryWatch | None = None
        self._life = Lifecycle(
            runtime=runtime,
            records=self._records,
            exec_root=exec_root,
            machine=machine,
            images=images,
            volumes=volumes,
            networks=networks,
            events=events,
            find=self.find,
            forget=self._forget,
            started=self._started,
        )
        self._streams = Streams(self._life)
        self._execs = Execs(runtime, self._life, self.find, machine.capabilities)

    @property
    def runtime(self) -> Runtime:
        """The program that runs the containers."""
        return self._runtime

    # -- the daemon's life

    async def open(self) -> None:
        """Adopt what runs, settle what has ended, clean up what is nobody's."""
        for directory in (self._exec_root / "containers", self._exec_root / "exits"):
            directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._watch = DirectoryWatch(str(self._exec_root / "exits"), self._exit_appeared, self._look_at_exits)
        await restore(
            self._life,
            self._records,
            containers=self._containers,
            names=self._names,
            networks=self._networks,
            exec_root=self._exec_root,
        )
        self._life.background.start(self._streams.bound_logs(self._containers), "bound logs")

    async def close(self) -> None:
        """Let go. Containers go on; where none runs, the daemon's own mounts are given back too."""
        self._life.stopping = True
        if self._watch is not None:
            self._watch.close()
        await self._life.background.close()
        for container in self._containers.values():
            container.unwatch()
        await self.release_mounts()

    async def release_mounts(self) -> None:
        """Give the daemon's own mounts back, if no container runs and nothing is mounted below them. Idempotent."""
        if (namespace := self._runtime.namespace) is not None:
            await namespace.close(unmount=not any(container.running for container in self._containers.values()))

    def _exit_appeared(self, name: str) -> None:
        container = self._containers.get(name)
        if container is not None:
            self._life.exit_appeared(container)
        elif len(name) == 64:
            (self._exec_root / "exits" / name).unlink(missing_ok=True)

    def _look_at_exits(self) -> None:
        for container in self._containers.values():
            self._life.exit_appeared(container)

    def _forget(self, container: Container) -> None:
        self._containers.pop(container.id, None)
        if self._names.get(container.name) == container.id:
            del self._names[container.name]
        self._execs.forget(container)

    def _started(self, container: Container) -> None:
        """A container runs: watch its health."""
        config = container.definition.config
        probe = probe_of(config.healthcheck, config.shell)
        if probe is None:
            if container.condition.health is not None:
                self._life.change(container, health=None)
            return
        adopted = container.condition.health
        health = adopted if container.adopted and adopted is not None else Health()
        self._life.change(container, health=health)
        container.health = self._life.background.start(
            watch_health(
                probe,
                health,
                container.started_mono,
                lambda probe: self._execs.probe(container, probe),
                lambda health, changed: self._health_changed(container, health, changed=changed),
            ),
            f"health {container.id[:12]}",
        )

    def _health_changed(self, container: Container, health: Health, *, changed: bool) -> None:
        if not container.running:
            return
        if not changed:
            container.condition = replace(container.condition, health=health)
            return
        self._life.change(container, health=health)
        self._life.publish(container, f"health_status: {health.status}")

    # -- looking

    def find(self, ref: str) -> Container:
        """The container that ``ref`` means. Raises NotFound, InvalidArgument."""
        return self._containers[naming.find(ref, self._containers.keys(), self._names)]

    def inspect(self, ref: str, *, size: bool = False) -> ContainerInspect:
        """Everything about one container."""
        container = self.find(ref)
        directory = self._records.directory(container.id)
        sizes = self._sizes(container) if size else None
        return container_view.show(
            container,
            directory,
            self._life.log_path(container),
            graph=self._images.graph_driver_data(container.id),
            sizes=sizes,
        )

    def list(
        self,
        *,
        all: bool = False,  # noqa: A002 - the API's word
        limit: int = 0,
        size: bool = False,
        filters: Filters,
    ) -> list[ContainerSummary]:
        """Containers, newest first: the running ones; with ``all`` or a limit, every one."""
        chosen = self._filter(filters)
        by_age = sorted(self._containers.values(), key=lambda container: container.definition.created, reverse=True)
        everything = all or limit > 0 or "status" in filters or "exited" in filters
        found = [
            container
            for container in by_age
            if (everything or container.condition.status in {"running", "restarting"}) and chosen.passes(container)
        ]
        now = container_view.utc_now()
        return [
            container_view.summarize(container, now, sizes=self._sizes(container) if size else None)
            for container in (found[:limit] if limit > 0 else found)
        ]

    def _filter(self, filters: Filters) -> container_view.ListFilter:
        def moments(name: str) -> builtins.list[datetime]:
            return [self.find(ref).definition.created for ref in filters.get(name)]

        ancestors: set[str] = set(filters.get("ancestor"))
        for ref in filters.get("ancestor"):
            try:
                ancestors.add(self._images.resolve(ref).id)
            except (NotFound, InvalidArgument):
                continue
        return container_view.ListFilter(
            filters,
            before=min(moments("before"), default=None),
            since=max(moments("since"), default=None),
            ancestors=ancestors,
        )

    def _sizes(self, container: Container) -> tuple[int, int]:
        written = _disk_use(self._images.graph_driver_data(container.id).get("UpperDir", ""))
        try:
            image_size = self._images.resolve(container.definition.image_id).size
        except EnxameError:
            image_size = 0
        return written, image_size + written

    # -- create, start, stop

    async def create(self, name: str, request: ContainerCreateRequest) -> ContainerCreateResponse:
        """Make a container; nothing of it runs or is mounted yet.

        Raises:
            NotFound: no such image.
            Conflict: the name is taken.
            InvalidArgument: the request breaks a rule.
        """
        chosen = naming.check_name(name) if name else naming.random_name(self._names)
        self._check_free(chosen)
        image = self._images.resolve(request.image)
        inherited = self._volumes_from(request)
        definition, warnings = create_request.define(
            chosen,
            request,
            image,
            container_view.utc_now(),
            inherited,
            swap_limit=self._machine.swap_limit,
        )
        self._check_references(definition.host.network_mode, definition.host.pid_mode, definition.host.ipc_mode)
        # The name is ours before the first await: two creates of one name cannot both pass.
        self._names[chosen] = definition.id
        container = Container(definition, Condition())
        self._containers[definition.id] = container  # from here on its volumes are held
        try:
            for mount in definition.mounts:
                if mount.type == "volume":
                    await self._volumes.create(_wanted_volume(mount))
            await asyncio.to_thread(self._records.define, definition)
        except BaseException as error:
            self._names.pop(chosen, None)
            self._containers.pop(definition.id, None)
            if isinstance(error, OSError):
                raise EnxameError(f"cannot write the container's record: {error}") from error
            raise
        self._life.publish(container, "create")
        return ContainerCreateResponse(id=definition.id, warnings=warnings)

    def _check_free(self, name: str) -> None:
        if (owner := self._names.get(name)) is not None:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{owner}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )

    def _check_references(self, *modes: str) -> None:
        for mode in modes:
            if mode.startswith("container:"):
                self.find(mode.partition(":")[2])

    def _volumes_from(self, request: ContainerCreateRequest) -> builtins.list[MountRequest]:
        mounts: dict[str, MountRequest] = {}
        for text in (request.host_config.volumes_from if request.host_config else None) or []:
            ref, _, mode = text.partition(":")
            if mode not in {"", "ro", "rw", "z", "Z"}:
                raise InvalidArgument(f"invalid mode: {mode}")
            for mount in self.find(ref).definition.mounts:
                if mount.type != "tmpfs":
                    mounts[mount.destination] = replace(
                        mount, read_only=mount.read_only or mode == "ro", anonymous=False
                    )
        return builtins.list(mounts.values())

    async def prepare(self, ref: str) -> None:
        """Do everything of a start but its last step, so that the start itself takes milliseconds. Idempotent."""
        container = self.find(ref)
        async with container.lock:
            if not container.removing:
                await self._life.prepare(container)

    async def start(self, ref: str) -> None:
        """Run a container. Raises NotModified when it runs."""
        container = self.find(ref)
        async with container.lock:
            self._cancel_restart(container)
            await self._life.start(container)

    def _cancel_restart(self, container: Container) -> None:
        if container.condition.status == "restarting":
            if container.restart is not None:
                container.restart.cancel()
                container.restart = None
            self._life.change(container, status="exited")

    async def stop(self, ref: str, *, signal: str = "", timeout: float | None = None) -> None:
        """End a container: its stop signal (or ``signal``), SIGKILL after ``timeout`` seconds (negative: never).

        Raises:
            NotModified: it does not run.
        """
        container = self.find(ref)
        await self._stop(container, signal, timeout)
        self._life.publish(container, "stop")

    async def _stop(self, container: Container, signal: str, timeout: float | None) -> None:
        config = container.definition.config
        number = parse_signal(signal or config.stop_signal or "SIGTERM")
        if timeout is None:
            timeout = _DEFAULT_STOP_TIMEOUT if config.stop_timeout is None else float(config.stop_timeout)
        if container.condition.status == "restarting":
            self._cancel_restart(container)
            self._life.change(container, stopped_by_user=True)
            return
        if container.starting:
            async with container.lock:
                pass
        if not container.running:
            if container.created is not None:
                # Prepared, never started: give back what it holds.
                async with container.lock:
                    if container.created is not None:
                        await self._life.discard(container)
            raise NotModified
        self._life.change(container, stopped_by_user=True)
        await self._life.stop(container, number, None if timeout < 0 else timeout)

    async def restart(self, ref: str, *, signal: str = "", timeout: float | None = None) -> None:
        """Stop it if it runs, and start it."""
        container = self.find(ref)
        with contextlib.suppress(NotModified):
            await self._stop(container, signal, timeout)
        async with container.lock:
            with contextlib.suppress(NotModified):
                await self._life.start(container)
        self._life.publish(container, "restart")

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        """Send a signal. SIGKILL waits for the end.

        Raises:
            Conflict: it does not run.
        """
        container = self.find(ref)
        number = parse_signal(signal or "SIGKILL")
        if not container.running:
            raise Conflict(f"Cannot kill container: {ref}: Container {container.id} is not running")
        config = container.definition.config
        if number in {9, parse_signal(config.stop_signal or "SIGTERM")}:
            self._life.change(container, stopped_by_user=True)
        if number == 9:
            await self._life.kill(container)
            return
        if not container.signal(number):
            raise Conflict(f"Cannot kill container: {ref}: Container {container.id} is not running")
        self._life.publish(container, "kill", signal=str(number))

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container; with ``force`` a running one is killed first, ``volumes``: its anonymous ones too.

        Raises:
            Conflict: it runs, or somebody else is removing it.
        """
        container = self.find(ref)
        if container.removing:
            raise Conflict(f"removal of container {container.id} is already in progress")
        if container.condition.status in {"running", "restarting"} and not force:
            state = container_view.state_word(container)
            advice = "unpause and then stop" if state == "paused" else "stop"
            raise Conflict(
                f'cannot remove container "/{container.name}": container is {state}: '
                f"{advice} the container before removing or force remove"
            )
        self._life.change(container, stopped_by_user=True)
        async with container.lock:
            if container.id not in self._containers:
                return
            self._cancel_restart(container)
            container.removing = True
            try:
                if container.running:
                    await self._life.kill(container)
                elif container.created is not None:
                    await self._life.discard(container)
                await self._life.remove(container, anonymous_volumes=volumes)
            finally:
                container.removing = container.id not in self._containers

    async def wait(self, ref: str, condition: str = "not-running") -> WaitResult:
        """Wait until the container does not run, until its next exit, or until it is removed.

        Raises:
            InvalidArgument: an unknown condition.
        """
        container = self.find(ref)
        match condition:
            case "" | "not-running":
                while container.condition.status in {"running", "restarting"}:
                    await asyncio.shield(container.next_exit())
                    if container.condition.status == "restarting":
                        # Docker answers at the first end, restart or not.
                        break
            case "next-exit":
                return WaitResult(status_code=await asyncio.shield(container.next_exit()))
            case "removed":
                await asyncio.shield(container.removed())
            case _:
                raise InvalidArgument(f'invalid condition: "{condition}"')
        error = container.condition.error
        return WaitResult(status_code=container.condition.exit_code, error=WaitError(message=error) if error else None)

    def rename(self, ref: str, name: str) -> None:
        """Give a container another name. Raises Conflict when it is taken."""
        container = self.find(ref)
        chosen = naming.check_name(name)
        if chosen == container.name:
            raise InvalidArgument("Renaming a container with the same name as its current name")
        self._check_free(chosen)
        old = container.name
        self._records.define(replace(container.definition, name=chosen))
        container.definition = replace(container.definition, name=chosen)
        del self._names[old]
        self._names[chosen] = container.id
        self._life.publish(container, "rename", oldName=f"/{old}")

    # -- streams, execs, usage

    def logs(self, ref: str, options: LogOptions) -> AsyncIterator[LogRecord]:
        """What the container wrote. Raises Unimplemented when its log driver cannot be read."""
        return self._streams.logs(self.find(ref), options)

    async def attach(self, ref: str, options: AttachOptions) -> Attachment:
        """Hold the container's streams. One that does not run yet is joined when it starts."""
        return self._streams.attach(self.find(ref), options)

    async def resize(self, ref: str, height: int, width: int) -> None:
        """Set the terminal's size. Raises Conflict when the container does not run."""
        self._streams.resize(self.find(ref), height, width)

    def stats(self, ref: str, *, stream: bool) -> AsyncIterator[ContainerStats]:
        """A sample a second, or a single one."""
        return usage.stream_stats(self._machine.layout, self.find(ref), stream=stream)

    async def top(self, ref: str, ps_args: str = "") -> TopResult:
        """The container's processes as ``ps`` shows them."""
        return await usage.list_processes(self._machine.layout, self.find(ref), ps_args)

    async def exec_create(self, ref: str, request: ExecCreateRequest) -> str:
        """Define an exec; returns its id. Raises Conflict when the container does not run."""
        return self._execs.create(ref, request)

    async def exec_start(self, exec_id: str, *, detach: bool = False, tty: bool = False) -> Attachment | None:
        """Run it; its streams, or None when detached. Raises NotFound, Conflict, InvalidArgument."""
        return await self._execs.start(exec_id, detach=detach, tty=tty)

    async def exec_resize(self, exec_id: str, height: int, width: int) -> None:
        """Set the size of an exec's terminal."""
        self._execs.resize(exec_id, height, width)

    def exec_inspect(self, exec_id: str) -> ExecInspect:
        """How an exec is. Raises NotFound."""
        return self._execs.inspect(exec_id)


def _disk_use(directory: str) -> int:
    """Bytes of the files below ``directory``; a hard link counts once."""
    total, seen = 0, set()
    for current, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(OSError):
                info = os.lstat(os.path.join(current, name))
                if info.st_ino not in seen:
                    seen.add(info.st_ino)
                    total += info.st_size
    return total


def _wanted_volume(mount: MountRequest) -> VolumeCreateRequest:
    """The volume that a mount asks for, should it not be there yet."""
    labels = {**mount.labels, ANONYMOUS_LABEL: ""} if mount.anonymous else mount.labels
    return VolumeCreateRequest(
        name=mount.name, driver=mount.driver or "local", driver_opts=mount.driver_options, labels=labels
    )
