"""The containers of this machine: what a client may ask of them. The steps behind it are in ``lifecycle``."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
from collections.abc import AsyncIterator

from msgspec.structs import replace

from enxame.engine import cgroups, container_view, naming, pruning, usage
from enxame.engine.attachment import Attachment
from enxame.engine.bundle import CGROUP_PARENT
from enxame.engine.committing import CommitRequest, commit_container
from enxame.engine.container import Container
from enxame.engine.container_networks import ContainerNetworks
from enxame.engine.container_table import ContainerTable
from enxame.engine.container_update import updated
from enxame.engine.creation import Creation
from enxame.engine.execs import Execs
from enxame.engine.exit_watch import DirectoryWatch
from enxame.engine.files.container_files import ContainerFiles
from enxame.engine.health_monitor import HealthMonitors
from enxame.engine.lifecycle import Lifecycle
from enxame.engine.listing import Listing
from enxame.engine.orders import Orders
from enxame.engine.restoration import restore
from enxame.engine.runtimes import Runtimes
from enxame.engine.streams import Streams
from enxame.engine.surroundings import Surroundings
from enxame.engine.syslog_forwarding import SyslogForwarders
from enxame.errors import Conflict, EnxameError, InvalidArgument, NotFound
from enxame.model.container import ContainerCreateRequest, ContainerUpdateRequest, EndpointSettings
from enxame.model.container_view import (
    ContainerCreateResponse,
    ContainerInspect,
    ContainerSummary,
    ContainerUpdateResponse,
    PruneReport,
    TopResult,
    WaitResult,
)
from enxame.model.exec import ExecCreateRequest, ExecInspect
from enxame.model.filters import Filters
from enxame.model.stats import ContainerStats
from enxame.model.stream import AttachOptions, LogOptions, LogRecord


class ContainerManager:
    """``ref`` is a full id, a name or a unique id prefix; unknown ones raise NotFound ``No such container: X``."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._table = ContainerTable()
        self._watch: DirectoryWatch | None = None
        self._life = Lifecycle(
            around, find=self.find, forget=self._forget, started=self._started, log_goes=self._log_goes
        )
        self._orders = Orders(self._life, self._table)
        self._listing = Listing(around, self._table)
        self._streams = Streams(self._life)
        self._networks = ContainerNetworks(around)
        self._execs = Execs(self._life, self.find, around.machine.capabilities)
        #: Copying in and out, export, changes.
        self.files = ContainerFiles(around, self.find)
        self._creation = Creation(around, self._table, self.files)
        self._health = HealthMonitors(around, self._execs.probe)
        self._syslog = SyslogForwarders(around)

    @property
    def runtimes(self) -> Runtimes:
        """The programs that run the containers."""
        return self._around.runtimes

    # -- the daemon's life

    async def open(self) -> None:
        """Adopt what runs, settle what has ended, clean up what is nobody's."""
        around = self._around
        for directory in (around.bundles, around.exits):
            directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._watch = DirectoryWatch(str(around.exits), self._exit_appeared, self._look_at_exits)
        await restore(self._life, self._table)
        for container in self._table:
            if not container.running:  # its last lines may have been written while no daemon was there
                self._syslog.watch(container)
        around.background.start(self._streams.bound_logs(self._table.by_id), "bound logs")

    async def close(self) -> None:
        """Let go. Containers go on; where none runs, the daemon's own mounts are given back too."""
        self._life.stopping = True
        if self._watch is not None:
            self._watch.close()
        await self._around.background.close()
        for container in self._table:
            container.unwatch()
        await self.release_mounts()

    async def release_mounts(self) -> None:
        """Give the daemon's own mounts back, if no container runs and nothing is mounted below them. Idempotent."""
        none_runs = not any(container.running for container in self._table)
        if none_runs:
            await asyncio.to_thread(cgroups.remove_parent, self._around.machine.layout, CGROUP_PARENT)
        for namespace in self._around.runtimes.namespaces:
            await namespace.close(unmount=none_runs)

    def _exit_appeared(self, name: str) -> None:
        container = self._table.by_id.get(name)
        if container is not None:
            self._life.exit_appeared(container)
        elif len(name) == 64:
            (self._around.exits / name).unlink(missing_ok=True)

    def _look_at_exits(self) -> None:
        for container in self._table:
            self._life.exit_appeared(container)

    def _forget(self, container: Container) -> None:
        self._table.drop(container)
        self._execs.forget(container)

    def _started(self, container: Container) -> None:
        self._health.started(container)
        self._syslog.watch(container)

    async def _log_goes(self, container: Container) -> None:
        await self._syslog.finish(container)

    # -- looking

    def find(self, ref: str) -> Container:
        """The container that ``ref`` means. Raises NotFound, InvalidArgument."""
        return self._table.find(ref)

    def inspect(self, ref: str) -> ContainerInspect:
        """Everything about one container."""
        return self._listing.inspect(self.find(ref))

    def list(
        self,
        *,
        all: bool = False,  # noqa: A002 - the API's word
        limit: int = 0,
        filters: Filters,
    ) -> list[ContainerSummary]:
        """Containers, newest first: the running ones; with ``all`` or a limit, every one."""
        return self._listing.summaries(self._listing.choose(all=all, limit=limit, filters=filters))

    async def list_with_sizes(
        self,
        *,
        all: bool = False,  # noqa: A002 - the API's word
        limit: int = 0,
        filters: Filters,
    ) -> builtins.list[ContainerSummary]:
        """The same with what each takes on the disk."""
        containers = self._listing.choose(all=all, limit=limit, filters=filters)
        return self._listing.summaries(containers, await self._listing.measure(containers))

    # -- create, start, stop

    async def create(
        self, name: str, request: ContainerCreateRequest, *, platform: str = ""
    ) -> ContainerCreateResponse:
        """Make a container. See :meth:`Creation.create`."""
        return await self._creation.create(name, request, platform=platform)

    async def prepare(self, ref: str) -> None:
        """Do everything of a start but its last step, so that the start itself takes milliseconds. Idempotent."""
        await self._orders.prepare(self.find(ref))

    async def start(self, ref: str) -> None:
        """Run a container. Raises NotModified when it runs. One that cannot be started and goes with its end (``--rm``)
        goes at once: clients wait for that.
        """
        await self._orders.start(self.find(ref))

    async def stop(self, ref: str, *, signal: str = "", timeout: float | None = None) -> None:
        """End a container: its stop signal (or ``signal``), SIGKILL after ``timeout`` seconds (negative: never).

        Raises:
            NotModified: it does not run.
        """
        await self._orders.stop(self.find(ref), signal=signal, timeout=timeout)

    async def restart(self, ref: str, *, signal: str = "", timeout: float | None = None) -> None:
        """Stop it if it runs, and start it."""
        await self._orders.restart(self.find(ref), signal=signal, timeout=timeout)

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        """Send a signal. SIGKILL waits for the end.

        Raises:
            Conflict: it does not run.
        """
        await self._orders.kill(self.find(ref), signal, ref)

    async def pause(self, ref: str) -> None:
        """Freeze all its processes. Raises Conflict when it does not run or is paused."""
        await self._orders.pause(self.find(ref))

    async def unpause(self, ref: str) -> None:
        """Let its processes go on. Raises Conflict when it is not paused."""
        await self._orders.unpause(self.find(ref))

    async def update(self, ref: str, request: ContainerUpdateRequest) -> ContainerUpdateResponse:
        """Change its limits and its restart policy, at once where it runs.

        Raises:
            InvalidArgument, Conflict: the change breaks a rule; nothing is changed.
            EnxameError: the kernel refused.
        """
        container = self.find(ref)
        async with container.lock:
            if container.removing:
                raise Conflict(f"Container {container.id} is marked for removal and cannot be updated")
            host, warnings = updated(container.definition.host, request, kernel=self._around.machine.kernel)
            await self._life.update(container, host)
        self._around.publish(container, "update")
        return ContainerUpdateResponse(warnings=warnings)

    async def connect(self, ref: str, network: str, settings: EndpointSettings) -> None:
        """Put a container, running or not, on a network.

        Raises:
            EnxameError: there is no such network, or it cannot be on it.
        """
        container = self.find(ref)
        async with container.lock:
            await self._networks.connect(container, network, settings)

    async def disconnect(self, ref: str, network: str) -> None:
        """Take a container, running or not, off a network.

        Raises:
            EnxameError: there is no such network, or it is not on it.
        """
        container = self.find(ref)
        async with container.lock:
            await self._networks.disconnect(container, network)

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container; with ``force`` a running one is killed first, ``volumes``: its anonymous ones too.

        Raises:
            Conflict: it runs, or somebody else is removing it.
        """
        await self._orders.remove(self.find(ref), force=force, volumes=volumes)

    async def wait(self, ref: str, condition: str = "not-running") -> WaitResult:
        """Wait until the container does not run, until its next exit, or until it is removed.

        Raises:
            InvalidArgument: an unknown condition.
        """
        return await self._orders.wait(self.find(ref), condition)

    async def prune(self, filters: Filters) -> PruneReport:
        """Remove what does not run. Raises InvalidArgument for a time that is none."""
        wanted = pruning.PruneFilter(filters, container_view.utc_now())
        found = [container for container in self._table if wanted.passes(container)]
        sizes = await self._listing.measure(found)
        gone = []
        for container in found:
            try:
                await self.remove(container.id)
            except EnxameError:  # started or removed meanwhile
                continue
            gone.append(container.id)
        freed = sum(sizes[one][0] for one in gone)
        self._around.events.publish("container", "prune", "", {"reclaimed": str(freed)})
        return PruneReport(containers_deleted=gone, space_reclaimed=freed)

    async def commit(self, ref: str, request: CommitRequest) -> str:
        """Make an image of what the container has become. See :func:`commit_container`."""
        container = self.find(ref)
        pause = request.pause and container.running and not container.condition.paused
        if pause:
            await self.pause(container.id)
        try:
            return await commit_container(self._around, self.files, container, request)
        finally:
            if pause:
                with contextlib.suppress(Conflict, NotFound):
                    await asyncio.shield(self.unpause(container.id))

    async def rename(self, ref: str, name: str) -> None:
        """Give a container another name. Raises Conflict when it is taken."""
        container = self.find(ref)
        bare = name.removeprefix("/")
        async with container.lock:
            if bare == container.name:
                raise InvalidArgument("Renaming a container with the same name as its current name")
            try:
                chosen = naming.check_name(f"/{bare}")
                self._table.check_free(chosen)
            except (Conflict, InvalidArgument) as error:
                raise type(error)(f"Error when allocating new name: {error.message}") from error
            old = container.name
            self._table.names[chosen] = container.id
            renamed = replace(container.definition, name=chosen)
            try:
                await asyncio.to_thread(self._around.redefine, container, renamed)
            except BaseException as error:
                if container.name != chosen:
                    del self._table.names[chosen]
                if isinstance(error, OSError):
                    raise EnxameError(f"cannot write the container's record: {error}") from error
                raise
            del self._table.names[old]
            info = await self._around.networks.rename(container.id, chosen)
            if info is not None:
                self._around.change(container, sandbox=info)
        self._around.publish(container, "rename", oldName=f"/{old}")

    # -- streams, execs, usage

    def logs(self, ref: str, options: LogOptions) -> AsyncIterator[LogRecord]:
        """What the container wrote. Raises Unimplemented when its log driver cannot be read."""
        return self._streams.logs(self.find(ref), options)

    def log_bytes(
        self, ref: str, options: LogOptions, *, stamps: bool = False, details: bool = False
    ) -> AsyncIterator[bytes]:
        """The same as clients get it, in big batches: Docker's frames, or plain text of a terminal."""
        return self._streams.log_bytes(self.find(ref), options, stamps=stamps, details=details)

    async def attach(self, ref: str, options: AttachOptions) -> Attachment:
        """Hold the container's streams. One that does not run yet is joined when it starts."""
        return self._streams.attach(self.find(ref), options)

    async def resize(self, ref: str, height: int, width: int) -> None:
        """Set the terminal's size. Raises Conflict when the container does not run."""
        self._streams.resize(self.find(ref), height, width)

    def stats(self, ref: str, *, stream: bool, compared: bool = True) -> AsyncIterator[ContainerStats]:
        """A sample a second, or a single one; ``compared``: that has the processor's use of a second before it."""
        return usage.stream_stats(self._around.machine.layout, self.find(ref), stream=stream, compared=compared)

    async def top(self, ref: str, ps_args: str = "") -> TopResult:
        """The container's processes as ``ps`` shows them."""
        container = self.find(ref)
        found = await usage.list_processes(self._around.machine.layout, container, ps_args)
        self._around.publish(container, "top")
        return found

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
