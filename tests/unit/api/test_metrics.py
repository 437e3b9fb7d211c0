"""The metrics page: in Prometheus' format, and with the swarm's numbers where there is a swarm."""

from __future__ import annotations

import re
from typing import Any

import aiohttp

_LINE = re.compile(r'^(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="([^"\\]|\\.)*",?)*\})? [-+0-9.e]+)$')


async def _page(server: Any) -> str:
    port = await server.listen_metrics("127.0.0.1", 0)
    async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/metrics") as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        return await response.text()


async def test_every_line_is_a_sample_or_says_of_one(swarm: Any) -> None:
    await swarm.json("POST", "/configs/create", {"Name": "c", "Data": "YQ=="}, status=201)
    page = await _page(swarm.server)
    assert [line for line in page.splitlines() if not _LINE.match(line)] == []
    assert "swarm_manager_configs_total 1\n" in page
    assert 'swarm_manager_nodes{state="ready"} 1\n' in page
    assert "swarm_node_manager 1\n" in page
    assert 'engine_daemon_container_states_containers{state="running"} 0\n' in page


async def test_outside_of_a_swarm_there_are_the_engines_numbers(served: Any) -> None:
    page = await _page(served.server)
    assert "swarm_manager" not in page
    assert "process_open_fds" in page


async def test_nothing_else_is_served_there(served: Any) -> None:
    port = await served.server.listen_metrics("127.0.0.1", 0)
    async with aiohttp.ClientSession() as client:
        for method, path in (("GET", "/containers/json"), ("POST", "/metrics"), ("GET", "/")):
            async with client.request(method, f"http://127.0.0.1:{port}{path}") as response:
                assert response.status == 404
