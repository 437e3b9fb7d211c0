"""``/nodes``."""

from __future__ import annotations

from aiohttp import web
from msgspec.structs import replace

from enxame.api.call import Call
from enxame.api.responses import empty_response, json_response
from enxame.api.routing import Routes
from enxame.model.cluster import PeerNode
from enxame.model.node import Node, NodeSpec

routes = Routes()
_FILTERS = ("id", "label", "membership", "name", "node.label", "role")


@routes.get("/nodes", query={"filters": _FILTERS}, answer=list[Node], errors=(503,), looks=True, leader=True)
async def list_nodes(call: Call) -> web.StreamResponse:
    """All nodes that match."""
    nodes = call.api.membership.manager.nodes.list(call.filters(_FILTERS))
    leader = call.api.membership.leadership.leader
    return json_response([_as_led(node, leader) for node in nodes])


@routes.get("/nodes/{name}", answer=Node, errors=(404, 503), looks=True, leader=True)
async def inspect_node(call: Call) -> web.StreamResponse:
    """One node."""
    node = call.api.membership.manager.nodes.get(call.name)
    return json_response(_as_led(node, call.api.membership.leadership.leader))


def _as_led(node: Node, leader: PeerNode | None) -> Node:
    """Who leads is known before it is written down."""
    status = node.manager_status
    if status is None or leader is None or status.leader == (node.id == leader.node_id):
        return node
    return replace(node, manager_status=replace(status, leader=not status.leader))


@routes.delete("/nodes/{name}", query={"force": bool}, errors=(404, 503), leader=True)
async def remove_node(call: Call) -> web.StreamResponse:
    """Forget a node."""
    await call.api.membership.manager.nodes.remove(call.name, force=call.flag("force"))
    return empty_response()


@routes.post("/nodes/{name}/update", query={"version*": int}, body=NodeSpec, errors=(404, 503), leader=True)
async def update_node(call: Call) -> web.StreamResponse:
    """Replace a node's spec."""
    version = call.object_version("node")
    spec = await call.body(NodeSpec)
    await call.api.membership.manager.nodes.update(call.name, version, spec)
    return empty_response()
