"""``/events``: what happens on this machine and, on a manager, in the swarm."""

from __future__ import annotations

from aiohttp import web

from enxame.api.call import Call
from enxame.api.log_query import moment_ns
from enxame.api.routing import Routes
from enxame.api.streams import stream_json
from enxame.errors import InvalidArgument
from enxame.model.event import EventMessage

routes = Routes()
_FILTERS = (
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
)


@routes.get(
    "/events",
    query={"since": str, "until": str, "filters": _FILTERS},
    answer=EventMessage,
    media="application/x-ndjson",
    looks=True,
)
async def events(call: Call) -> web.StreamResponse:
    """Past events from ``since`` on, then those to come until ``until`` or until the client leaves."""
    since, until = moment_ns(call, "since"), moment_ns(call, "until")
    if since is not None and until is not None and since > until:
        raise InvalidArgument(
            f"`since` time ({call.text('since')}) cannot be after `until` time ({call.text('until')})"
        )
    return await stream_json(call, call.api.engine.events.subscribe(call.filters(_FILTERS), since, until))
