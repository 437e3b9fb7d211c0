"""``/containers/{id}/start`` and the like: what makes containers run, stop and be waited for."""

from __future__ import annotations

import asyncio

from aiohttp import web

from enxame.api.call import Call
from enxame.api.connection import cancelled_on_disconnect
from enxame.api.errors import message_of
from enxame.api.responses import empty_response, json_response, stream_response
from enxame.api.routing import Routes
from enxame.errors import InvalidArgument
from enxame.model.base import encode
from enxame.model.container_view import WaitError, WaitResult

routes = Routes()


@routes.post("/containers/{name}/start", query={"detachKeys": str}, status=204, errors=(304, 404))
async def start(call: Call) -> web.StreamResponse:
    """Run it; 304 when it runs."""
    if len(await call.request.read()) > 2:
        raise InvalidArgument(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    await call.api.engine.containers.start(call.name)
    return empty_response(204)


@routes.post("/containers/{name}/stop", query={"t": int, "signal": str}, status=204, errors=(304, 404))
async def stop(call: Call) -> web.StreamResponse:
    """Ask it to end, after ``t`` seconds make it; 304 when it does not run."""
    await call.api.engine.containers.stop(call.name, signal=call.text("signal"), timeout=_grace(call))
    return empty_response(204)


@routes.post("/containers/{name}/restart", query={"t": int, "signal": str}, status=204, errors=(404,))
async def restart(call: Call) -> web.StreamResponse:
    """Stop, then start."""
    await call.api.engine.containers.restart(call.name, signal=call.text("signal"), timeout=_grace(call))
    return empty_response(204)


@routes.post("/containers/{name}/kill", query={"signal": str}, status=204, errors=(404, 409))
async def kill(call: Call) -> web.StreamResponse:
    """Send a signal."""
    await call.api.engine.containers.kill(call.name, call.text("signal") or "SIGKILL")
    return empty_response(204)


@routes.post("/containers/{name}/pause", status=204, errors=(404, 409))
async def pause(call: Call) -> web.StreamResponse:
    """Freeze its processes."""
    await call.api.engine.containers.pause(call.name)
    return empty_response(204)


@routes.post("/containers/{name}/unpause", status=204, errors=(404, 409))
async def unpause(call: Call) -> web.StreamResponse:
    """Let its processes go on."""
    await call.api.engine.containers.unpause(call.name)
    return empty_response(204)


@routes.post("/containers/{name}/resize", query={"h*": int, "w*": int}, errors=(404, 409))
async def resize(call: Call) -> web.StreamResponse:
    """Tell the terminal its size."""
    height, width = call.required_integer("h"), call.required_integer("w")
    await call.api.engine.containers.resize(call.name, height, width)
    return empty_response()


@routes.post("/containers/{name}/wait", query={"condition": str}, answer=WaitResult, errors=(404,))
async def wait(call: Call) -> web.StreamResponse:
    """Answer when the container has ended. The headers go out as soon as the wait is on: clients start the container
    only then, so that no exit is missed.
    """
    condition = call.text("condition") or "not-running"
    if condition not in ("not-running", "next-exit", "removed"):
        raise InvalidArgument(f'invalid condition: "{condition}"')
    containers = call.api.engine.containers
    container_id = containers.inspect(call.name).id
    with cancelled_on_disconnect(call.request):
        waiting = asyncio.ensure_future(containers.wait(container_id, condition))
        try:
            # One turn of the loop registers the wait; it may be over by then.
            await asyncio.sleep(0)
            if waiting.done():
                return json_response(waiting.result())
            response = stream_response("application/json")
            await response.prepare(call.request)
            try:
                result = await waiting
            except Exception as error:  # noqa: BLE001
                what = f"wait for container {container_id}"
                result = WaitResult(status_code=125, error=WaitError(message=message_of(error, what)))
        finally:
            waiting.cancel()
    await response.write(encode(result) + b"\n")
    await response.write_eof()
    return response


def _grace(call: Call) -> float | None:
    """``t``: whole seconds; None is the container's own, negative is for ever."""
    return float(call.integer("t")) if call.text("t") else None
