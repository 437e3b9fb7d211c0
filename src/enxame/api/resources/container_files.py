"""``/containers/{id}/archive``, ``export``, ``changes`` and ``/commit``: what is in a container's files."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

from aiohttp import web

from enxame.api.answers import IdResponse
from enxame.api.call import Call
from enxame.api.connection import cancelled_on_disconnect
from enxame.api.responses import empty_response, json_response, stream_response
from enxame.api.routing import Routes
from enxame.engine.committing import CommitRequest
from enxame.errors import InvalidArgument
from enxame.model.base import encode
from enxame.model.container import ContainerConfig
from enxame.model.container_view import FilesystemChange, PathStat

routes = Routes()
_TAR = "application/x-tar"
_STAT_HEADER = "X-Docker-Container-Path-Stat"
_CHUNK = 256 * 1024


@routes.head("/containers/{name}/archive", query={"path*": str}, errors=(404,), looks=True)
async def stat_path(call: Call) -> web.StreamResponse:
    """What is at a path, told in a header."""
    found = await call.api.engine.containers.files.stat(call.name, _path(call))
    response = empty_response()
    response.headers[_STAT_HEADER] = _told(found)
    return response


@routes.get("/containers/{name}/archive", query={"path*": str}, answer=bytes, media=_TAR, errors=(404,))
async def read_path(call: Call) -> web.StreamResponse:
    """A tar of what is at a path."""
    with cancelled_on_disconnect(call.request):
        async with call.api.engine.containers.files.read(call.name, _path(call)) as (found, chunks):
            response = stream_response(_TAR)
            response.headers[_STAT_HEADER] = _told(found)
            return await _send(call, response, chunks)


@routes.put(
    "/containers/{name}/archive",
    query={"path*": str, "noOverwriteDirNonDir": bool, "copyUIDGID": bool},
    body=_TAR,
    errors=(403, 404),
)
async def write_path(call: Call) -> web.StreamResponse:
    """Place the files of a tar in a directory."""
    await call.api.engine.containers.files.write(
        call.name,
        _path(call),
        call.request.content.iter_chunked(_CHUNK),
        keep_kinds=call.flag("noOverwriteDirNonDir"),
        own=call.flag("copyUIDGID"),
    )
    return empty_response()


@routes.get("/containers/{name}/export", answer=bytes, media=_TAR, errors=(404,))
async def export(call: Call) -> web.StreamResponse:
    """A tar of the whole filesystem, without volumes."""
    with cancelled_on_disconnect(call.request):
        async with call.api.engine.containers.files.export(call.name) as chunks:
            return await _send(call, stream_response(_TAR), chunks)


@routes.get("/containers/{name}/changes", answer=list[FilesystemChange], errors=(404,), looks=True)
async def changes(call: Call) -> web.StreamResponse:
    """What differs from the image."""
    return json_response(await call.api.engine.containers.files.changes(call.name))


@routes.post(
    "/commit",
    query={
        "container*": str,
        "repo": str,
        "tag": str,
        "comment": str,
        "author": str,
        "pause": bool,
        "changes": list[str],
    },
    body=ContainerConfig,
    answer=IdResponse,
    status=201,
    errors=(404, 409),
)
async def commit(call: Call) -> web.StreamResponse:
    """An image out of a container."""
    if not call.text("container"):
        raise InvalidArgument("invalid parameter: container must not be empty")
    config = None
    if call.request.can_read_body and (await call.request.read()).strip() not in (b"", b"null"):
        config = await call.body(ContainerConfig)
    request = CommitRequest(
        repository=call.text("repo"),
        tag=call.text("tag"),
        author=call.text("author"),
        message=call.text("comment"),
        pause=call.flag("pause", default=True),
        changes=[line for text in call.texts("changes") for line in text.split("\n")],
        config=config,
    )
    image_id = await call.api.engine.containers.commit(call.text("container"), request)
    return json_response(IdResponse(id=image_id), status=201)


def _path(call: Call) -> str:
    path = call.text("path")
    if not path:
        raise InvalidArgument('bad parameter: "path" must not be empty')
    return path


def _told(found: PathStat) -> str:
    return base64.b64encode(encode(found)).decode()


async def _send(call: Call, response: web.StreamResponse, chunks: AsyncIterator[bytes]) -> web.StreamResponse:
    await response.prepare(call.request)
    async for chunk in chunks:
        await response.write(chunk)
    await response.write_eof()
    return response
