"""``/_ping``, ``/version``, ``/info``, ``/auth``, ``/system/df``."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from enxame.api.call import Call
from enxame.api.connection import cancelled_on_disconnect
from enxame.api.disk_usage import KINDS
from enxame.api.host_facts import host_facts, program_version
from enxame.api.responses import COMMON_HEADERS, json_response
from enxame.api.routing import Routes
from enxame.api.system_view import info_view, version_view
from enxame.errors import InvalidArgument
from enxame.model.image import RegistryAuth
from enxame.model.system import DiskUsage

routes = Routes()


def _swarm_header(call: Call) -> str:
    info = call.api.membership.info()
    if info.local_node_state != "active":
        return info.local_node_state
    return "active/manager" if info.control_available else "active/worker"


@routes.get("/_ping", answer=bytes, media="text/plain", looks=True)
async def ping(call: Call) -> web.StreamResponse:
    """Alive, and what to speak with it."""
    return web.Response(body=b"OK", headers=_ping_headers(call))


@routes.head("/_ping", looks=True)
async def head_ping(call: Call) -> web.StreamResponse:
    """The same without a body."""
    return web.Response(headers={**_ping_headers(call), "Content-Length": "0"})


def _ping_headers(call: Call) -> dict[str, str]:
    return {
        **COMMON_HEADERS,
        # 1 is the classic builder; 2 would make clients speak BuildKit's protocol.
        "Builder-Version": "1",
        "Swarm": _swarm_header(call),
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
        "Content-Type": "text/plain; charset=utf-8",
    }


@routes.get("/version", answer=dict[str, Any], looks=True)
async def version(_call: Call) -> web.StreamResponse:
    """Versions of the daemon and of what it runs containers with."""
    return json_response(await asyncio.to_thread(lambda: version_view(host_facts())))


@routes.get("/info", answer=dict[str, Any], looks=True)
async def info(call: Call) -> web.StreamResponse:
    """The daemon, its machine and its swarm at a glance."""
    facts = call.api.facts
    default = facts.runtimes.get(facts.default_runtime)
    runtime = default.path if default is not None else facts.default_runtime
    host, runtime_version = await asyncio.to_thread(lambda: (host_facts(), program_version(runtime)))
    return json_response(info_view(call.api, host, runtime_version))


@routes.post("/auth", body=RegistryAuth, answer=dict[str, str], errors=(401,))
async def authenticate(call: Call) -> web.StreamResponse:
    """Whether a registry takes the client's credentials. They are not kept: clients send them along when they pull."""
    auth = await call.body(RegistryAuth)
    with cancelled_on_disconnect(call.request):
        await call.api.engine.images.registries.login(auth)
    return json_response({"IdentityToken": "", "Status": "Login Succeeded"})


@routes.get("/system/df", query={"type": list[str], "verbose": bool}, answer=DiskUsage, looks=True)
async def disk_usage(call: Call) -> web.StreamResponse:
    """What images, containers and volumes take on the disk; every byte of a shared layer counts once."""
    kinds = set(call.texts("type"))
    unknown = kinds - set(KINDS)
    if unknown:
        raise InvalidArgument(f"unknown object type: {sorted(unknown)[0]}")
    with cancelled_on_disconnect(call.request):
        return json_response(await call.api.sizes.report(call.api.engine, kinds or KINDS))
