"""``/tasks``."""

from __future__ import annotations

from aiohttp import web
from msgspec.structs import replace

from enxame.api.call import Call
from enxame.api.responses import json_response
from enxame.api.routing import Routes
from enxame.model.task import Task

routes = Routes()
_FILTERS = ("_up-to-date", "desired-state", "id", "label", "name", "node", "runtime", "service")


def _public(task: Task) -> Task:
    return replace(task, internal=None)


@routes.get("/tasks", query={"filters": _FILTERS}, answer=list[Task], errors=(404, 503), looks=True, leader=True)
async def list_tasks(call: Call) -> web.StreamResponse:
    """All tasks that match."""
    tasks = call.api.membership.manager.tasks.list(call.filters(_FILTERS))
    return json_response([_public(task) for task in tasks])


@routes.get("/tasks/{name}", answer=Task, errors=(404, 503), looks=True, leader=True)
async def inspect_task(call: Call) -> web.StreamResponse:
    """One task."""
    return json_response(_public(call.api.membership.manager.tasks.get(call.name)))
