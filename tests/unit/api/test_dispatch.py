"""Versions, unknown paths, headers, errors: what holds for every request."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from enxame import API_VERSION
from enxame.api.errors import MAX_BODY


async def test_ping_tells_what_to_speak(served: Any) -> None:
    response = await served.get("/_ping")
    assert (response.status, await response.text()) == (200, "OK")
    assert response.headers["Api-Version"] == API_VERSION
    assert response.headers["Swarm"] == "inactive"
    assert response.headers["Ostype"] == "linux"
    assert response.headers["Builder-Version"] == "1"
    assert response.headers["Server"].startswith("Enxame/")
    head = await served.client.head("http://docker/v1.24/_ping")
    assert (head.status, await head.read(), head.headers["Api-Version"]) == (200, b"", API_VERSION)


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/nope", 404, "page not found"),
        ("PATCH", "/_ping", 404, "page not found"),
        ("GET", "/v1.41", 404, "page not found"),
        ("GET", "/v1.x/_ping", 404, "page not found"),
        ("GET", "/containers//json", 404, "page not found"),
        (
            "GET",
            "/v1.10/_ping",
            400,
            (
                "client version 1.10 is too old. Minimum supported API version is 1.24, "
                "please upgrade your client to a newer version"
            ),
        ),
        ("GET", "/v1.99/info", 400, "client version 1.99 is too new. Maximum supported API version is 1.47"),
        ("GET", "/containers/ghost/json", 404, "No such container: ghost"),
        ("POST", "/containers/ghost/stop?t=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        (
            "GET",
            "/containers/json?filters=%7Bbogus",
            400,
            "invalid filter: JSON is malformed: object keys must be strings (byte 1)",
        ),
        ("GET", '/containers/json?filters={"colour":["red"]}', 400, "invalid filter 'colour'"),
        ("GET", "/containers/box/logs", 400, "Bad parameters: you must choose at least one stream"),
        (
            "GET",
            "/containers/box/logs?stdout=1&since=yesterday",
            400,
            'invalid value for "since": failed to parse value as time: yesterday',
        ),
        ("POST", "/containers/box/wait?condition=bored", 400, 'invalid condition: "bored"'),
        ("GET", "/events?since=20&until=10", 400, "`since` time (20) cannot be after `until` time (10)"),
        (
            "POST",
            "/plugins/vieux/sshfs/enable?timeout=0",
            404,
            'plugin "vieux/sshfs" not found',
        ),
        ("POST", "/session", 501, "building with BuildKit is not supported by this daemon yet"),
        ("POST", "/swarm/leave", 503, "This node is not part of a swarm"),
        ("GET", "/exec/ghost/json", 404, "No such exec instance: ghost"),
    ],
)
async def test_refusals_in_dockers_words(served: Any, method: str, path: str, status: int, message: str) -> None:
    assert await served.message(method, path) == (status, message)


@pytest.mark.parametrize(
    "path",
    [
        "/swarm",
        "/services",
        "/services/x",
        "/tasks",
        "/nodes",
        "/secrets",
        "/configs/x",
        "/swarm/unlockkey",
        "/services/x/logs?stdout=1",
    ],
)
async def test_a_node_that_is_no_manager_says_so(served: Any, path: str) -> None:
    status, message = await served.message("GET", path)
    assert status == 503
    assert message.startswith("This node is not a swarm manager.")


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ({}, b"{}", "unsupported Content-Type header (application/octet-stream): must be 'application/json'"),
        (
            {"Content-Type": "nonsense"},
            b"{}",
            "malformed Content-Type header (nonsense): mime: invalid media parameter",
        ),
        (
            {"Content-Type": "text/plain"},
            b"{}",
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        ),
        ({"Content-Type": "application/json"}, b'{"Detach": tr', "invalid JSON: "),
        (
            {"Content-Type": "application/json"},
            b'{"Detach": "yes"}',
            "invalid JSON: Expected `bool`, got `str` - at `$.Detach`",
        ),
        ({"Content-Type": "application/json; charset=utf-8"}, b"[1]", "invalid JSON: expected an object, got list"),
        ({"Content-Type": "application/json"}, b"[" * 100_000, "invalid JSON: "),
        ({"Content-Type": "application/json"}, b'{"Tty": "\xff"}', "invalid JSON: "),
    ],
)
async def test_bodies_that_are_no_json_are_400(served: Any, headers: dict[str, str], body: bytes, message: str) -> None:
    status, text = await served.message("POST", f"/exec/{'e' * 64}/start", data=body, headers=headers)
    assert status == 400
    assert text.startswith(message)


async def test_a_huge_body_is_413_and_the_server_goes_on(served: Any) -> None:
    huge = io.BytesIO(json.dumps({"Tty": "x" * MAX_BODY}).encode())
    async with served.client.post(
        f"http://docker/exec/{'e' * 64}/start", data=huge, headers={"Content-Type": "application/json"}
    ) as response:
        assert response.status == 413
        assert (await response.json())["message"] == f"request body too large: more than {MAX_BODY} bytes"
    assert (await served.get("/_ping")).status == 200


async def test_unknown_fields_and_headers_are_ignored(served: Any) -> None:
    response = await served.post(
        f"/exec/{'e' * 64}/start",
        data=b'{"Detach": true, "Invented": {"deep": [1]}}',
        headers={"Content-Type": "application/json", "X-PortainerAgent-Signature": "abc"},
    )
    assert response.status == 200


async def test_an_unforeseen_error_shows_an_id_and_no_traceback(served: Any, caplog: pytest.LogCaptureFixture) -> None:
    served.engine.containers.stop = None
    status, message = await served.message("POST", "/containers/box/stop")
    assert status == 500
    assert message.startswith("internal error ")
    incident = message.split()[2].rstrip(":")
    assert incident in caplog.text
    assert "Traceback" not in message


async def test_names_are_percent_decoded(served: Any) -> None:
    assert await served.message("GET", "/containers/a%2Fb%20c/json") == (404, "No such container: a/b c")


async def test_expect_100_continue_is_answered(served: Any) -> None:
    response = await served.post("/containers/box/stop?t=3", expect100=True, data=b"")
    assert response.status == 204
    assert served.engine.containers.calls == [("stop", "box", "", 3.0)]
