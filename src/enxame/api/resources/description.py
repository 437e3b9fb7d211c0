"""``/openapi.json``: this API's own description."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from aiohttp import web

from enxame.api.call import Call
from enxame.api.openapi import document
from enxame.api.responses import COMMON_HEADERS
from enxame.api.routing import Routes
from enxame.model.base import encode

routes = Routes()


@cache
def _rendered() -> bytes:
    from enxame.api.resources import all_routes

    return encode(document(all_routes().operations)) + b"\n"


@routes.get("/openapi.json", answer=dict[str, Any], looks=True)
async def describe(_call: Call) -> web.StreamResponse:
    """This description."""
    body = await asyncio.to_thread(_rendered)
    return web.Response(body=body, headers={**COMMON_HEADERS, "Content-Type": "application/json"})
