"""``/swarm``: this node's relation to a swarm, and the swarm's settings."""

from __future__ import annotations

from aiohttp import web
from msgspec.structs import replace

from enxame.api.call import Call
from enxame.api.responses import empty_response, json_response
from enxame.api.routing import Routes
from enxame.errors import InvalidArgument
from enxame.model.cluster import Cluster, InitRequest, JoinRequest, SwarmSpec, UnlockRequest

routes = Routes()


@routes.get("/swarm", answer=Cluster, errors=(503,), looks=True, leader=True)
async def inspect_swarm(call: Call) -> web.StreamResponse:
    """The swarm with its join tokens: the only place that shows them."""
    return json_response(replace(call.api.membership.manager.swarm.inspect(), internal=None))


@routes.post("/swarm/init", body=InitRequest, answer=str, errors=(503,))
async def init_swarm(call: Call) -> web.StreamResponse:
    """Make a new swarm of this node."""
    return json_response(await call.api.membership.init(await call.body(InitRequest)))


@routes.post("/swarm/join", body=JoinRequest, errors=(503,))
async def join_swarm(call: Call) -> web.StreamResponse:
    """Join a swarm that is there."""
    await call.api.membership.join(await call.body(JoinRequest))
    return empty_response()


@routes.post("/swarm/leave", query={"force": bool}, errors=(503,))
async def leave_swarm(call: Call) -> web.StreamResponse:
    """Forget the swarm."""
    await call.api.membership.leave(call.flag("force"))
    return empty_response()


@routes.post(
    "/swarm/update",
    query={"version*": int, "rotateWorkerToken": bool, "rotateManagerToken": bool, "rotateManagerUnlockKey": bool},
    body=SwarmSpec,
    errors=(503,),
    leader=True,
)
async def update_swarm(call: Call) -> web.StreamResponse:
    """Replace the swarm's spec, rotate tokens."""
    version = call.object_version("swarm")
    rotate = {
        name: _boolean(call, name) for name in ("rotateWorkerToken", "rotateManagerToken", "rotateManagerUnlockKey")
    }
    manager = call.api.membership.manager
    await manager.swarm.update(
        version,
        await call.body(SwarmSpec),
        rotate_worker_token=rotate["rotateWorkerToken"],
        rotate_manager_token=rotate["rotateManagerToken"],
        rotate_unlock_key=rotate["rotateManagerUnlockKey"],
    )
    return empty_response()


@routes.get("/swarm/unlockkey", answer=UnlockRequest, errors=(503,), leader=True)
async def unlock_key(call: Call) -> web.StreamResponse:
    """The key that locked managers need; empty when autolock is off."""
    return json_response({"UnlockKey": call.api.membership.manager.swarm.unlock_key()})


@routes.post("/swarm/unlock", body=UnlockRequest, errors=(409, 503))
async def unlock_swarm(call: Call) -> web.StreamResponse:
    """Give a locked manager its key."""
    await call.api.membership.unlock((await call.body(UnlockRequest)).unlock_key)
    return empty_response()


def _boolean(call: Call, parameter: str) -> bool:
    """Go's strconv.ParseBool: stricter than :meth:`Call.flag`, as Docker is here."""
    text = call.text(parameter)
    if text in ("", "0", "f", "F", "false", "FALSE", "False"):
        return False
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    raise InvalidArgument(f'invalid value for {parameter}: {text}: strconv.ParseBool: parsing "{text}": invalid syntax')
