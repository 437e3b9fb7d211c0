"""Every request that is the leader's has a way to be made again, or it may happen twice."""

from __future__ import annotations

from typing import Any

import pytest

from enxame.api.repeating import Repeat, how_to_repeat
from enxame.api.resources import all_routes
from enxame.api.routing import Operation
from enxame.errors import Unavailable

LEADERS = [operation for operation in all_routes().operations if operation.leader]


@pytest.mark.parametrize("operation", LEADERS, ids=lambda operation: f"{operation.method} {operation.path}")
def test_every_request_of_the_leaders_has_a_way(operation: Operation) -> None:
    how = how_to_repeat(operation)
    assert (how is Repeat.FREELY) == (operation.method == "GET")
    if how is Repeat.BY_LOOKING:
        assert all_routes().find("GET", operation.path) is not None
    if how is Repeat.BY_VERSION:
        assert operation.query["version*"] is int


LOCKED = (
    'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.'
)


@pytest.mark.parametrize("operation", LEADERS, ids=lambda operation: f"{operation.method} {operation.path}")
async def test_a_node_that_cannot_manage_says_why_to_every_one(
    served: Any, monkeypatch: pytest.MonkeyPatch, operation: Operation
) -> None:
    def refuse(_membership: object) -> None:
        raise Unavailable(LOCKED)

    for name in ("manager", "leadership"):
        monkeypatch.setattr(type(served.membership), name, property(refuse))
    path = operation.path.replace("{name}", "x") + "?version=1&stdout=1"
    spec = {"Name": "x", "Driver": "overlay"} if "networks" in path else {"Name": "x"}
    body = spec if operation.method == "POST" else None
    if operation.path == "/networks/{name}":
        # What the swarm has by this name cannot be known.
        assert await served.message(operation.method, path) == (404, "network x not found")
    else:
        assert await served.message(operation.method, path, json=body) == (503, LOCKED)


def test_what_has_no_way_is_a_mistake() -> None:
    async def nothing(call: object) -> None: ...

    with pytest.raises(ValueError, match="POST /swarm/explode is the leader's, but could happen twice"):
        how_to_repeat(Operation(method="POST", path="/swarm/explode", handler=nothing))  # type: ignore[arg-type]


def test_what_is_about_the_asked_node_is_never_the_leaders() -> None:
    paths = {operation.path for operation in LEADERS}
    assert paths.isdisjoint(
        {"/swarm/init", "/swarm/join", "/swarm/leave", "/swarm/unlock", "/info", "/_ping", "/events"}
    )
    whole = ("/services", "/tasks", "/nodes", "/secrets", "/configs")
    for operation in all_routes().operations:
        if operation.path.startswith(whole):
            assert operation.leader, operation.path
