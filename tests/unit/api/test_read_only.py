"""Read-only listeners: who looks is served, nothing changes, no secret leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from enxame.api.read_only import without_secrets
from enxame.api.resources import all_routes
from enxame.model.base import encode


class Looker:
    """A client of a read-only socket."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self._client = client

    async def ask(self, method: str, path: str) -> tuple[int, Any]:
        async with self._client.request(method, f"http://docker{path}") as response:
            return response.status, await response.json() if response.content_type == "application/json" else None


@pytest.fixture
async def looker(swarm: Any, tmp_path: Path) -> AsyncIterator[Looker]:
    path = tmp_path / "looks.sock"
    await swarm.server.listen_unix(path, looks_only=True)
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client:
        yield Looker(client)


CHANGES = [operation for operation in all_routes().operations if operation.method not in ("GET", "HEAD")]


@pytest.mark.parametrize("operation", CHANGES, ids=lambda operation: f"{operation.method} {operation.path}")
async def test_nothing_can_be_changed(looker: Looker, operation: Any) -> None:
    status, answer = await looker.ask(operation.method, f"/v1.41{operation.path.replace('{name}', 'box')}")
    assert status == 403
    assert answer["message"].startswith(f"this socket is read-only: {operation.method} {operation.path[:4]}")


@pytest.mark.parametrize(
    "path", ["/swarm/unlockkey", "/containers/box/archive", "/containers/box/export", "/images/x/get", "/images/get",
             "/distribution/x/json", "/containers/box/attach/ws"],
)  # fmt: skip
async def test_what_shows_secrets_or_files_or_asks_others_is_refused(looker: Looker, path: str) -> None:
    assert (await looker.ask("GET", path))[0] == 403


async def test_an_unknown_page_is_not_found(looker: Looker) -> None:
    assert (await looker.ask("GET", "/nothing"))[0] == 404


async def test_those_who_look_are_served(looker: Looker) -> None:
    for path in ("/_ping", "/version", "/services", "/tasks", "/nodes", "/networks", "/containers/json"):
        assert (await looker.ask("GET", path))[0] == 200, path


async def test_the_swarm_is_shown_without_its_tokens(looker: Looker, swarm: Any) -> None:
    assert "JoinTokens" in await swarm.json("GET", "/swarm")
    status, answer = await looker.ask("GET", "/swarm")
    assert (status, answer["ID"], "JoinTokens" in answer) == (200, "c" * 25, False)


async def test_a_configs_data_is_left_out(looker: Looker, swarm: Any) -> None:
    await swarm.json("POST", "/configs/create", {"Name": "c", "Data": "c2VjcmV0"}, status=201)
    assert (await swarm.json("GET", "/configs"))[0]["Spec"]["Data"] == "c2VjcmV0"
    status, answer = await looker.ask("GET", "/configs")
    assert (status, answer[0]["Spec"]["Name"], "Data" in answer[0]["Spec"]) == (200, "c", False)


async def test_errors_stay_as_they_are(looker: Looker) -> None:
    assert await looker.ask("GET", "/services/none") == (404, {"message": "service none not found"})


def test_values_of_environment_variables_are_hidden_wherever_they_stand() -> None:
    body = encode(
        {"Spec": [{"ContainerSpec": {"Env": ["A=1", "B"], "Labels": {"Env": "x"}}}], "Data": {"UpperDir": "/x"}}
    )
    assert without_secrets(body) == (
        b'{"Spec":[{"ContainerSpec":{"Env":["A=","B"],"Labels":{"Env":"x"}}}],"Data":{"UpperDir":"/x"}}\n'
    )


def test_what_is_no_json_passes() -> None:
    assert without_secrets(b"OK") == b"OK"
