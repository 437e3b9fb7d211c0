"""``/swarm/backup`` and ``/swarm/restore``: the whole swarm in one file. Ours alone; Docker has neither."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Final

from aiohttp import web

from enxame.api.call import Call
from enxame.api.responses import empty_response, json_response
from enxame.api.routing import Routes
from enxame.api.streams import first_of, stream_bytes
from enxame.backup.files import SECRET_HEADER, Secret
from enxame.model.backup import BackupSchedule, BackupStatus, Restored, RestoreRequest

routes = Routes()

_MEDIA: Final = "application/octet-stream"
_CHUNK: Final = 1 << 18


@routes.get("/swarm/backup", headers=(SECRET_HEADER,), answer=bytes, media=_MEDIA, errors=(503,))
async def backup(call: Call) -> web.StreamResponse:
    """The swarm as it is now, at one revision, encrypted when the request brings a secret."""
    pieces = call.api.membership.manager.backups.stream(_secret(call))
    return await stream_bytes(call, _MEDIA, await first_of(pieces))


@routes.post(
    "/swarm/restore",
    query={"listenAddr": str, "advertiseAddr": str, "dataPathAddr": str},
    headers=(SECRET_HEADER,),
    body=_MEDIA,
    answer=Restored,
    errors=(503,),
)
async def restore(call: Call) -> web.StreamResponse:
    """Make this node, which is in no swarm, the manager that made the backup."""
    secret = _secret(call)
    wanted = RestoreRequest(
        listen_addr=call.text("listenAddr"),
        advertise_addr=call.text("advertiseAddr"),
        data_path_addr=call.text("dataPathAddr"),
    )
    descriptor, name = tempfile.mkstemp(prefix=".restore-", dir=call.api.facts.data_root)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            async for chunk in call.request.content.iter_chunked(_CHUNK):
                await asyncio.to_thread(file.write, chunk)
        return json_response(await call.api.membership.restore(path, secret, wanted))
    finally:
        _remove(path)


@routes.get("/swarm/backup/schedule", answer=BackupStatus, errors=(503,), looks=True, leader=True)
async def schedule(call: Call) -> web.StreamResponse:
    """Which backups the swarm's leader makes by itself, and what came of them."""
    return json_response(call.api.membership.manager.backup_schedules.status())


@routes.post("/swarm/backup/schedule", query={"version*": int}, body=BackupSchedule, errors=(503,), leader=True)
async def set_schedule(call: Call) -> web.StreamResponse:
    """Change that; without a directory no more are made."""
    version = call.object_version("swarm")
    wanted = await call.body(BackupSchedule)
    manager = call.api.membership.manager
    await manager.backup_schedules.set(version, wanted if wanted.directory else None)
    return empty_response()


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _secret(call: Call) -> Secret | None:
    return Secret.from_header(call.request.headers.get(SECRET_HEADER, ""))
