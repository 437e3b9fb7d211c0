"""Images between this machine and registries: pulled, pushed, asked after."""

from __future__ import annotations

import asyncio

from enxame.engine.images.catalog import Catalog
from enxame.engine.images.image_events import ImageEvents
from enxame.engine.images.login import check_login
from enxame.engine.images.pulling import Progress, PulledImage, Puller, SharedPull
from enxame.engine.images.pushing import Pusher
from enxame.engine.images.reference import Reference, parse, parse_repository
from enxame.engine.images.registry import Registry
from enxame.engine.uncancelled import to_the_end
from enxame.errors import EnxameError, InvalidArgument, NotFound
from enxame.model.image import DistributionInspect, Image, ProgressDetail, ProgressMessage, RegistryAuth

__all__ = ["Registries"]


class Registries:
    """Brings images into the catalog, and sends them from there."""

    def __init__(self, registry: Registry, catalog: Catalog, events: ImageEvents) -> None:
        self._registry = registry
        self._catalog = catalog
        self._layers, self._index = catalog.layers, catalog.index
        self._events = events
        self._puller = Puller(registry, catalog.layers)
        self._pusher = Pusher(registry, catalog.layers)
        self._pulls: dict[tuple[str, str, RegistryAuth | None], SharedPull] = {}

    async def stop(self) -> None:
        """End the pulls that go on."""
        pulls = [shared.task for shared in self._pulls.values() if not shared.task.done()]
        for task in pulls:
            task.cancel()
        if pulls:
            await asyncio.wait(pulls)

    async def pull(
        self, reference: str, *, auth: RegistryAuth | None = None, platform: str = "", progress: Progress
    ) -> Image:
        """Bring an image from its registry. Several pulls of one reference are one.

        Raises:
            InvalidArgument: a bad reference or platform, or what the registry has is no image for us.
            NotFound: the registry has no such image, or does not show it.
            EnxameError: the registry cannot be reached; the disk is full.
        """
        name = parse(reference).tagged()
        if name.digest:
            name = name.canonical(name.digest)
        key = (str(name), platform, auth)
        shared = self._pulls.get(key)
        if shared is None or shared.abandoned or shared.task.done():
            shared = self._pulls[key] = SharedPull(lambda tell: self._pull(name, auth, platform, tell))
        try:
            await shared.join(progress)
        finally:
            if shared.task.done() and self._pulls.get(key) is shared:
                del self._pulls[key]
        return self._index.lookup(str(name)).image

    async def pull_all(
        self, repository: str, *, auth: RegistryAuth | None = None, platform: str = "", progress: Progress
    ) -> None:
        """Bring all tags of a repository, one after the other. Raises as :meth:`pull`."""
        name = parse(repository)
        async with self._registry.session(name, auth) as session:
            tags = await self._registry.tags(name, session)
        if not tags:
            raise NotFound(f"repository {name.familiar_name} not found: name unknown: it has no tags")
        for tag in tags:
            await self.pull(f"{name}:{tag}", auth=auth, platform=platform, progress=progress)

    async def _pull(self, name: Reference, auth: RegistryAuth | None, platform: str, progress: Progress) -> None:
        names: list[Reference] = []
        new = False

        def known(digest: str) -> bool:
            names[:] = [name, name.canonical(digest)] if name.tag else [name]
            return not platform and str(name.canonical(digest)) in self._index.names

        async def keep(pulled: PulledImage) -> None:
            nonlocal new
            new = self._index.names.get(str(name)) != pulled.image_id
            await self._catalog.register(pulled.image_id, pulled.config, pulled.layers, names)

        try:
            async with self._catalog.cleaning_up(refetch=False):
                digest = await self._puller.pull(
                    name, auth=auth, platform=platform, known=known, keep=keep, progress=progress
                )
            if name.tag and not new:  # what is here already may have got another tag in the registry
                image_id = self._index.names[str(name.canonical(digest))]
                new = self._index.names.get(str(name)) != image_id
                async with self._catalog.changing:
                    await to_the_end(lambda: self._index.rename({str(name): image_id}))
        except OSError as error:
            raise EnxameError(f"cannot pull {name.familiar}: {error}") from error
        progress(ProgressMessage(status=f"Digest: {digest}"))
        what = "Downloaded newer image" if new else "Image is up to date"
        progress(ProgressMessage(status=f"Status: {what} for {name.familiar}"))
        self._events.publish("pull", name.familiar, name.familiar_name)

    async def push(
        self, repository: str, tag: str = "", *, auth: RegistryAuth | None = None, progress: Progress
    ) -> None:
        """Send an image to the registry that its name says; without ``tag`` all tags of the repository.

        Raises:
            NotFound: there is no such image here, or no such repository there.
            InvalidArgument: a bad name.
            EnxameError: in Docker's words: not allowed, not reachable.
        """
        name = parse(repository)
        if name.digest:
            raise InvalidArgument("cannot push a digest reference")
        if tag or name.tag:
            wanted = [parse_repository(repository, tag)]
        else:
            every = (parse(text) for text in sorted(self._index.names))
            wanted = [one for one in every if one.name == name.name and one.tag]
        if not wanted or any(str(one) not in self._index.names for one in wanted):
            raise NotFound(f"An image does not exist locally with the tag: {name.familiar_name}")
        progress(ProgressMessage(status=f"The push refers to repository [{name.name}]"))
        for one in wanted:
            await self._push(one, auth, progress)

    async def _push(self, name: Reference, auth: RegistryAuth | None, progress: Progress) -> None:
        record = self._index.lookup(str(name))
        with self._layers.lease([record.image.id, *record.image.layers]):
            try:
                digest, size = await self._pusher.push(name, record, auth=auth, progress=progress)
            except OSError as error:
                raise EnxameError(f"cannot push {name.familiar}: {error}") from error
            async with self._catalog.changing:
                if record.image.id in self._index.records:
                    await self._catalog.add_name(record, name.canonical(digest))
        progress(ProgressMessage(status=f"{name.tag}: digest: {digest} size: {size}"))
        progress(
            ProgressMessage(progress_detail=ProgressDetail(), aux={"Tag": name.tag, "Digest": digest, "Size": size})
        )
        self._events.publish("push", name.familiar, name.familiar_name)

    async def distribution(self, reference: str, auth: RegistryAuth | None = None) -> DistributionInspect:
        """What the registry says of a reference: its digest and platforms. Fails within some two seconds when the
        registry cannot be reached.

        Raises:
            InvalidArgument, NotFound, EnxameError: as :meth:`pull`.
        """
        try:
            return await self._puller.distribution(parse(reference).tagged(), auth)
        except NotFound as error:
            _, known, reason = error.message.partition("not found: ")
            raise NotFound(reason if known else error.message) from error

    async def login(self, auth: RegistryAuth) -> None:
        """Ask the registry ``auth.serveraddress`` whether it takes these credentials; nothing is kept.

        Raises:
            InvalidArgument, Unauthenticated, EnxameError: there is no name, it does not, it cannot be reached.
        """
        await check_login(self._registry, auth)
