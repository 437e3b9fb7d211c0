"""Making a container: its definition, its name, its volumes. Nothing of it runs or is mounted yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from enxame.engine import container_view, create_request, naming
from enxame.engine.container import Container
from enxame.engine.container_record import Condition
from enxame.engine.container_table import ContainerTable
from enxame.engine.files.container_files import ContainerFiles
from enxame.engine.images.platforms import check_platform, parse_platform
from enxame.engine.mount_requests import MountRequest, mount_point
from enxame.engine.surroundings import Surroundings
from enxame.engine.volumes import ANONYMOUS_LABEL
from enxame.errors import EnxameError, InvalidArgument, NotFound
from enxame.model.container import ContainerCreateRequest
from enxame.model.container_view import ContainerCreateResponse, MountPoint
from enxame.model.volume import VolumeCreateRequest


class Creation:
    """Takes new containers into the table."""

    def __init__(self, around: Surroundings, table: ContainerTable, files: ContainerFiles) -> None:
        self._around, self._table, self._files = around, table, files

    async def create(
        self, name: str, request: ContainerCreateRequest, *, platform: str = ""
    ) -> ContainerCreateResponse:
        """Make a container; nothing of it runs or is mounted yet. ``platform``: the image must be for it.

        Raises:
            NotFound: no such image.
            Conflict: the name is taken.
            InvalidArgument: the request breaks a rule.
        """
        chosen = naming.check_name(name) if name else naming.random_name(self._table.names)
        self._table.check_free(chosen)
        image = self._around.images.resolve(request.image)
        if platform:
            check_platform(image, request.image, parse_platform(platform))
        inherited = self._volumes_from(request)
        definition, warnings = create_request.define(
            chosen,
            request,
            image,
            container_view.utc_now(),
            inherited,
            kernel=self._around.machine.kernel,
        )
        self._check_references(
            definition.host.network_mode, definition.host.pid_mode, definition.host.ipc_mode, definition.host.uts_mode
        )
        kind, _, owner = definition.host.network_mode.partition(":")
        if kind == "container":
            shared = self._known(owner).definition.config
            config = replace(definition.config, hostname=shared.hostname, domainname=shared.domainname)
            definition = replace(definition, config=config)
        if definition.host.network_mode in {"default", "bridge"}:  # elsewhere names are asked for when they are used
            self._check_links(definition.host.links or [])
        runtime = self._around.runtimes.choose(definition.host.runtime).name
        definition = replace(definition, host=replace(definition.host, runtime=runtime))
        # The name is ours before the first await: two creates of one name cannot both pass.
        container = Container(definition, Condition())
        self._table.add(container)  # from here on its volumes are held
        try:
            points = [await self._point(mount) for mount in definition.mounts]
            await asyncio.to_thread(self._around.records.define, definition)
            if any(points):
                self._around.change(container, mounts=[point for point in points if point is not None])
            await self._fill_volumes(container)
        except BaseException as error:
            self._table.drop(container)
            await asyncio.shield(self._undo(container))
            if isinstance(error, OSError):
                raise EnxameError(f"cannot write the container's record: {error}") from error
            raise
        self._around.publish(container, "create")
        return ContainerCreateResponse(id=definition.id, warnings=warnings)

    async def _point(self, mount: MountRequest) -> MountPoint | None:
        """Make the mount's volume, if it has one; how the mount is shown."""
        if mount.type != "volume":
            return mount_point(mount, mount.source)
        volume = await self._around.volumes.create(_wanted_volume(mount))
        return mount_point(mount, volume.mountpoint)

    async def _undo(self, container: Container) -> None:
        await self._around.images.delete_layer(container.id)
        await asyncio.to_thread(self._around.records.delete, container.id)

    async def _fill_volumes(self, container: Container) -> None:
        """Give its empty volumes what the image has in their places: before anyone copies into them."""
        volumes = self._around.volumes
        empty = [
            mount
            for mount in container.definition.mounts
            if mount.type == "volume" and mount.copy and not mount.subpath and await volumes.may_be_filled(mount.name)
        ]
        if not empty:
            return
        async with self._files.mounted(container) as merged:
            for mount in empty:
                await volumes.populate(mount.name, mount.destination, root=merged)

    def _check_references(self, *modes: str) -> None:
        for mode in modes:
            if mode.startswith("container:"):
                self._known(mode.partition(":")[2])

    def _check_links(self, links: Sequence[str]) -> None:
        for link in links:
            target = link.partition(":")[0].lstrip("/")
            try:
                self._known(target)
            except InvalidArgument as error:
                raise InvalidArgument(f"could not get container for {target}: {error.message}") from error

    def _known(self, ref: str) -> Container:
        """Another container. InvalidArgument, not NotFound: clients take that for a missing image."""
        try:
            return self._table.find(ref)
        except NotFound as error:
            raise InvalidArgument(error.message) from error

    def _volumes_from(self, request: ContainerCreateRequest) -> list[MountRequest]:
        mounts: dict[str, MountRequest] = {}
        for text in (request.host_config.volumes_from if request.host_config else None) or []:
            ref, _, mode = text.partition(":")
            if mode not in {"", "ro", "rw", "z", "Z"}:
                raise InvalidArgument(f"invalid mode: {mode}")
            for mount in self._known(ref).definition.mounts:
                if mount.type != "tmpfs":
                    mounts[mount.destination] = replace(
                        mount, read_only=mount.read_only or mode == "ro", anonymous=False
                    )
        return list(mounts.values())


def _wanted_volume(mount: MountRequest) -> VolumeCreateRequest:
    """The volume that a mount asks for, should it not be there yet."""
    labels = {**mount.labels, ANONYMOUS_LABEL: ""} if mount.anonymous else mount.labels
    return VolumeCreateRequest(
        name=mount.name, driver=mount.driver or "local", driver_opts=mount.driver_options, labels=labels
    )
