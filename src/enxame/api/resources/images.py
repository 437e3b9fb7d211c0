"""``/images``."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web
from msgspec import structs

from enxame.api.call import Call
from enxame.api.registry_auth import registry_auth
from enxame.api.responses import empty_response, json_response
from enxame.api.routing import Routes
from enxame.api.streams import ProgressStream, stream_bytes
from enxame.errors import InvalidArgument
from enxame.model.base import always
from enxame.model.image import (
    ImageConfig,
    ImageDeleteItem,
    ImageHistoryItem,
    ImageInspect,
    ImagesPruneReport,
    ImageSummary,
    ProgressMessage,
)

routes = Routes()


class ImageDetails(ImageInspect):
    """``GET /images/{name}/json``: also what Docker left out in 1.45 and docker-compose 1.29 reads in every version."""

    container_config: ImageConfig = always(default_factory=ImageConfig)


_FILTERS = ("before", "dangling", "label", "reference", "since", "until")
_PRUNE_FILTERS = ("dangling", "label", "label!", "until")
_CHUNK = 256 * 1024


@routes.get("/images/json", query={"all": bool, "filters": _FILTERS}, answer=list[ImageSummary], looks=True)
async def list_images(call: Call) -> web.StreamResponse:
    """All images that match."""
    return json_response(call.api.engine.images.list(filters=call.filters(_FILTERS), all=call.flag("all")))


@routes.post(
    "/images/create",
    query={
        "fromImage": str,
        "fromSrc": str,
        "repo": str,
        "tag": str,
        "message": str,
        "changes": list[str],
        "platform": str,
    },
    headers=("X-Registry-Auth",),
    body="application/x-tar",
    answer=ProgressMessage,
    media="application/x-ndjson",
    errors=(404,),
)
async def create_image(call: Call) -> web.StreamResponse:
    """Pull an image from its registry, or make one of a tar."""
    if call.text("fromSrc"):
        return await _import(call)
    name = call.text("fromImage")
    if not name:
        raise InvalidArgument("invalid reference format")
    auth = registry_auth(call)
    tag = call.text("tag")
    reference = name if not tag else f"{name}@{tag}" if ":" in tag else f"{name}:{tag}"
    progress = ProgressStream(call)
    registries = call.api.engine.images.registries
    last = name.rpartition("/")[2]
    # Docker's own rule: neither tag nor digest means all tags of the repository.
    pull = registries.pull if tag or ":" in last or "@" in last else registries.pull_all
    return await progress.run(
        lambda: pull(reference, auth=auth, platform=call.text("platform"), progress=progress.report)
    )


async def _import(call: Call) -> web.StreamResponse:
    if call.text("fromSrc") != "-":
        raise InvalidArgument("importing from a URL is not supported: fetch it and send it as the request's body")
    progress = ProgressStream(call)

    async def work() -> None:
        image_id = await call.api.engine.images.import_(
            _body(call),
            repository=call.text("repo"),
            tag=call.text("tag"),
            message=call.text("message"),
            changes=call.texts("changes"),
            platform=call.text("platform"),
        )
        progress.report(ProgressMessage(status=image_id))

    return await progress.run(work)


@routes.post(
    "/images/load",
    query={"quiet": bool},
    body="application/x-tar",
    answer=ProgressMessage,
    media="application/x-ndjson",
)
async def load_images(call: Call) -> web.StreamResponse:
    """Take images from an archive as ``docker save`` makes it."""
    progress = ProgressStream(call)
    # With quiet, what was loaded is told, but not how far it is.
    report = (
        (lambda message: progress.report(message) if message.stream else None)
        if call.flag("quiet")
        else progress.report
    )
    return await progress.run(lambda: call.api.engine.images.load(_body(call), progress=report))


@routes.post(
    "/images/{name}/push",
    query={"tag": str, "platform": str},
    headers=("X-Registry-Auth",),
    answer=ProgressMessage,
    media="application/x-ndjson",
    errors=(404,),
)
async def push_image(call: Call) -> web.StreamResponse:
    """Send an image to its registry: one tag, or all of the repository."""
    auth, tag = registry_auth(call), call.text("tag")
    progress = ProgressStream(call)
    return await progress.run(
        lambda: call.api.engine.images.registries.push(call.name, tag, auth=auth, progress=progress.report)
    )


@routes.get("/images/{name}/get", answer=bytes, media="application/x-tar", errors=(404,))
async def save_image(call: Call) -> web.StreamResponse:
    """An image, or all tags of a repository, as an archive."""
    return await stream_bytes(call, "application/x-tar", call.api.engine.images.save([call.name]))


@routes.get("/images/get", query={"names": list[str]}, answer=bytes, media="application/x-tar", errors=(404,))
async def save_images(call: Call) -> web.StreamResponse:
    """Several images as one archive."""
    names = [name for value in call.texts("names") for name in value.split(",") if name]
    return await stream_bytes(call, "application/x-tar", call.api.engine.images.save(names))


async def _body(call: Call) -> AsyncIterator[bytes]:
    async for chunk in call.request.content.iter_chunked(_CHUNK):
        yield chunk


@routes.get("/images/{name}/json", answer=ImageDetails, errors=(404,), looks=True)
async def inspect_image(call: Call) -> web.StreamResponse:
    """One image."""
    image = call.api.engine.images.inspect(call.name)
    return json_response(ImageDetails(**structs.asdict(image), container_config=image.config))


@routes.get("/images/{name}/history", answer=list[ImageHistoryItem], errors=(404,), looks=True)
async def image_history(call: Call) -> web.StreamResponse:
    """How it was made."""
    return json_response(call.api.engine.images.history(call.name))


@routes.post("/images/{name}/tag", query={"repo": str, "tag": str}, status=201, errors=(404, 409))
async def tag_image(call: Call) -> web.StreamResponse:
    """Give it another name."""
    await call.api.engine.images.tag(call.name, call.text("repo"), call.text("tag"))
    return empty_response(201)


@routes.delete(
    "/images/{name}", query={"force": bool, "noprune": bool}, answer=list[ImageDeleteItem], errors=(404, 409)
)
async def remove_image(call: Call) -> web.StreamResponse:
    """Remove a name, and with its last name the image."""
    images = call.api.engine.images
    return json_response(await images.remove(call.name, force=call.flag("force"), prune=not call.flag("noprune")))


@routes.post("/images/prune", query={"filters": _PRUNE_FILTERS}, answer=ImagesPruneReport)
async def prune_images(call: Call) -> web.StreamResponse:
    """Remove what nobody uses."""
    return json_response(await call.api.engine.images.prune(call.filters(_PRUNE_FILTERS)))
