"""``/build``: Docker's classic builder."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiohttp import web

from enxame.api.call import Call
from enxame.api.responses import json_response
from enxame.api.routing import Routes
from enxame.api.streams import ProgressStream
from enxame.engine.building.options import BuildOptions
from enxame.engine.networks.moments import parse_moment
from enxame.errors import InvalidArgument, Unimplemented
from enxame.model.base import convert
from enxame.model.container import Ulimit
from enxame.model.filters import Filters
from enxame.model.image import BuildPruneReport, ProgressMessage, RegistryAuth

routes = Routes()
_CHUNK: Final = 256 * 1024
_PRUNE_FILTERS: Final = ("until", "id", "parent", "type", "description", "inuse", "shared", "private", "label")
_QUERY: Final[dict[str, Any]] = {
    "dockerfile": str,
    "t": list[str],
    "extrahosts": list[str],
    "remote": str,
    "q": bool,
    "nocache": bool,
    "cachefrom": str,
    "pull": str,
    "rm": bool,
    "forcerm": bool,
    "memory": int,
    "memswap": int,
    "cpushares": int,
    "cpusetcpus": str,
    "cpusetmems": str,
    "cpuperiod": int,
    "cpuquota": int,
    "buildargs": str,
    "shmsize": int,
    "squash": bool,
    "labels": str,
    "networkmode": str,
    "platform": str,
    "target": str,
    "ulimits": str,
    "version": str,
}


@routes.post(
    "/build",
    query=_QUERY,
    headers=("X-Registry-Config",),
    body="application/x-tar",
    answer=ProgressMessage,
    media="application/x-ndjson",
)
async def build_image(call: Call) -> web.StreamResponse:
    """Build an image of the tar in the body."""
    if call.text("version") == "2":
        raise Unimplemented("BuildKit is not supported by this daemon: set DOCKER_BUILDKIT=0 for the classic builder")
    if call.text("remote"):
        raise Unimplemented("building from a remote context is not supported by this daemon: send it as a tar")
    options = _options(call)
    progress = ProgressStream(call)
    return await progress.run(lambda: call.api.engine.builder.build(_body(call), options, progress.report))


@routes.post(
    "/build/prune",
    query={"all": bool, "keep-storage": int, "filters": _PRUNE_FILTERS},
    answer=BuildPruneReport,
    errors=(409,),
)
async def prune_builds(call: Call) -> web.StreamResponse:
    """Drop the cache of builds."""
    filters = call.filters(_PRUNE_FILTERS)
    moments = [parse_moment(text, datetime.now(UTC)) for text in filters.get("until")]
    if len(moments) > 1:
        raise InvalidArgument("more than one until filter specified")
    if not _may_match(filters):
        return json_response(BuildPruneReport())
    keep = call.integer("keep-storage")
    if keep and await call.api.engine.builder.cache_size() <= keep:
        return json_response(BuildPruneReport())
    gone, freed = await call.api.engine.builder.prune(before=moments[0] if moments else None, ids=filters.get("id"))
    return json_response(BuildPruneReport(caches_deleted=gone or None, space_reclaimed=freed))


def _may_match(filters: Filters) -> bool:
    """Whether anything of our cache is of the kind that is asked for: private steps that nothing runs in."""
    kinds = filters.get("type")
    return (
        (not kinds or "regular" in kinds)
        and "label" not in filters  # of "system prune"
        and "parent" not in filters
        and "description" not in filters
        and not ("inuse" in filters and filters.flag("inuse"))
        and not ("shared" in filters and filters.flag("shared"))
        and not ("private" in filters and not filters.flag("private"))
    )


async def _body(call: Call) -> AsyncIterator[bytes]:
    async for chunk in call.request.content.iter_chunked(_CHUNK):
        yield chunk


def _options(call: Call) -> BuildOptions:
    return BuildOptions(
        dockerfile=call.text("dockerfile") or "Dockerfile",
        tags=[tag for tag in call.texts("t") if tag],
        arguments=_json(call, "buildargs", dict[str, str | None]),
        labels=_json(call, "labels", dict[str, str]),
        target=call.text("target"),
        platform=call.text("platform"),
        network=call.text("networkmode"),
        extra_hosts=[host for value in call.texts("extrahosts") for host in value.split(",") if host],
        ulimits=[convert(one, Ulimit) for one in _json(call, "ulimits", list[dict[str, Any]])],
        no_cache=call.flag("nocache"),
        pull=call.flag("pull"),
        squash=call.flag("squash"),
        quiet=call.flag("q"),
        memory=call.integer("memory"),
        memory_swap=call.integer("memswap"),
        shm_size=call.integer("shmsize"),
        cpu_shares=call.integer("cpushares"),
        cpu_period=call.integer("cpuperiod"),
        cpu_quota=call.integer("cpuquota"),
        cpuset_cpus=call.text("cpusetcpus"),
        cpuset_mems=call.text("cpusetmems"),
        credentials=_credentials(call),
    )


def _json(call: Call, parameter: str, as_type: Any) -> Any:
    text = call.text(parameter)
    try:
        found = msgspec.json.decode(text, type=as_type | None) if text else None
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"invalid {parameter}: {error}") from error
    return found if found is not None else as_type()


def _credentials(call: Call) -> dict[str, RegistryAuth]:
    """``X-Registry-Config``: credentials by registry."""
    text = call.request.headers.get("X-Registry-Config", "")
    if not text:
        return {}
    try:
        raw = base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
        found = msgspec.json.decode(raw, type=dict[str, dict[str, Any]] | None) if raw.strip() else None
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise InvalidArgument(f"invalid X-Registry-Config header: {error}") from error
    return {key: convert(one, RegistryAuth) for key, one in (found or {}).items()}
