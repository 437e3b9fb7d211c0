"""Bodies that grow: logs, waits, progress; slow and vanishing clients."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from enxame.errors import EnxameError, NotFound
from enxame.model.container_view import WaitResult
from enxame.model.image import ProgressDetail, ProgressMessage, RegistryAuth
from enxame.model.stream import LogRecord

STAMP = "2026-11-22T02:25:17.903612904Z"


async def test_logs_are_framed_with_timestamps_in_front(served: Any) -> None:
    served.engine.containers.records = [LogRecord(1, STAMP, b"out\n"), LogRecord(2, STAMP, b"err\n")]
    response = await served.get("/v1.47/containers/box/logs?stdout=1&stderr=1&timestamps=1")
    assert response.headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
    line = f"{STAMP} out\n".encode()
    assert await response.read() == (
        b"\x01\0\0\0"
        + len(line).to_bytes(4, "big")
        + line
        + b"\x02\0\0\0"
        + len(line).to_bytes(4, "big")
        + f"{STAMP} err\n".encode()
    )


async def test_logs_of_a_terminal_are_raw(served: Any) -> None:
    served.engine.containers.tty = True
    served.engine.containers.records = [LogRecord(1, STAMP, b"out\r\n")]
    response = await served.get("/v1.47/containers/box/logs?stdout=1")
    assert response.headers["Content-Type"] == "application/vnd.docker.raw-stream"
    assert await response.read() == b"out\r\n"


async def test_following_ends_when_the_client_leaves(served: Any) -> None:
    served.engine.containers.records = [LogRecord(1, STAMP, b"out\n")]
    response = await served.get("/containers/box/logs?stdout=1&follow=1")
    assert await response.content.readexactly(12) == b"\x01\0\0\0\0\0\0\x04out\n"
    assert not served.engine.containers.logs_ended.is_set()
    response.close()
    async with asyncio.timeout(5):
        await served.engine.containers.logs_ended.wait()


async def test_headers_of_a_silent_stream_come_at_once(served: Any) -> None:
    async with asyncio.timeout(5):
        response = await served.get("/containers/box/logs?stdout=1&follow=1")
    assert response.status == 200
    response.close()


async def test_wait_sends_headers_first_and_the_exit_code_later(served: Any) -> None:
    async with asyncio.timeout(5):
        response = await served.post("/containers/box/wait?condition=next-exit")
        assert response.status == 200
        served.engine.containers.exit.set_result(WaitResult(status_code=7))
        assert await response.json() == {"StatusCode": 7}


async def test_a_wait_that_fails_late_says_why_in_the_body(served: Any) -> None:
    async with asyncio.timeout(5):
        response = await served.post("/containers/box/wait")
        served.engine.containers.exit.set_exception(EnxameError("the monitor is gone"))
        assert await response.json() == {"StatusCode": 125, "Error": {"Message": "the monitor is gone"}}


async def test_wait_for_an_unknown_container_is_404(served: Any) -> None:
    assert await served.message("POST", "/containers/ghost/wait") == (404, "No such container: ghost")


async def test_pull_streams_progress_lines(served: Any) -> None:
    served.engine.images.pull_steps = [
        ProgressMessage(status="Pulling from library/web", id="latest"),
        ProgressMessage(status="Downloading", id="aaa", progress_detail=ProgressDetail(current=1, total=2)),
        ProgressMessage(status="Status: Downloaded newer image for web:latest"),
    ]
    auth = base64.urlsafe_b64encode(json.dumps({"username": "u", "password": "p?>"}).encode()).decode()
    response = await served.post("/images/create?fromImage=web&tag=latest", headers={"X-Registry-Auth": auth})
    lines = [json.loads(line) for line in (await response.text()).splitlines()]
    assert lines == [
        {"status": "Pulling from library/web", "id": "latest"},
        {"status": "Downloading", "id": "aaa", "progressDetail": {"current": 1, "total": 2}},
        {"status": "Status: Downloaded newer image for web:latest"},
    ]
    assert served.engine.images.pulled == ("web:latest", RegistryAuth(username="u", password="p?>"), "")


async def test_pull_by_digest_joins_with_an_at_sign(served: Any) -> None:
    response = await served.post("/images/create?fromImage=web&tag=sha256:abc")
    await response.read()
    assert served.engine.images.pulled[0] == "web@sha256:abc"


async def test_a_pull_that_fails_at_once_is_a_status(served: Any) -> None:
    served.engine.images.pull_steps = [NotFound("pull access denied for ghost")]
    assert await served.message("POST", "/images/create?fromImage=ghost&tag=1") == (404, "pull access denied for ghost")


async def test_a_pull_that_fails_later_says_so_in_the_stream(served: Any) -> None:
    served.engine.images.pull_steps = [ProgressMessage(status="Pulling"), EnxameError("connection reset by registry")]
    response = await served.post("/images/create?fromImage=web&tag=1")
    assert response.status == 200
    assert json.loads((await response.text()).splitlines()[-1]) == {
        "errorDetail": {"message": "connection reset by registry"},
        "error": "connection reset by registry",
    }


async def test_what_a_slow_client_has_not_read_is_kept_once_a_layer(served: Any) -> None:
    def step(done: int) -> ProgressMessage:
        return ProgressMessage(status="Downloading", id="aaa", progress_detail=ProgressDetail(current=done, total=9))

    gate = asyncio.Event()

    async def pull(reference: str, *, auth: Any, platform: str, progress: Any) -> None:
        for done in range(10_000):
            progress(step(done))
        gate.set()

    served.engine.images.registries.pull = pull
    response = await served.post("/images/create?fromImage=web&tag=1")
    lines = (await response.text()).splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["progressDetail"]["current"] == 9_999


@pytest.mark.parametrize(
    "header", ["%%%", base64.urlsafe_b64encode(b"[1]").decode(), base64.urlsafe_b64encode(b"{").decode(), "YWJj\u00e9"]
)
async def test_malformed_credentials_are_400(served: Any, header: str) -> None:
    status, message = await served.message(
        "POST", "/images/create?fromImage=web&tag=1", headers={"X-Registry-Auth": header}
    )
    assert status == 400
    assert message.startswith("invalid X-Registry-Auth header: ")


@pytest.mark.parametrize(
    "header", ["", base64.urlsafe_b64encode(b"{}").decode(), base64.urlsafe_b64encode(b"{}").decode().rstrip("=")]
)
async def test_empty_credentials_are_none(served: Any, header: str) -> None:
    response = await served.post("/images/create?fromImage=web&tag=1", headers={"X-Registry-Auth": header})
    await response.read()
    assert served.engine.images.pulled == ("web:1", None, "")


async def test_many_lines_arrive_whole_and_in_order(served: Any) -> None:
    served.engine.containers.tty = True
    lines = [f"line {number}\n".encode() for number in range(20_000)]
    served.engine.containers.records = [LogRecord(1, STAMP, line) for line in lines]
    response = await served.get("/containers/box/logs?stdout=1")
    assert await response.read() == b"".join(lines)


async def test_a_client_that_does_not_read_holds_the_source_back(served: Any) -> None:
    told = 0

    async def logs(ref: str, options: Any) -> Any:
        nonlocal told
        while True:
            told += 1
            yield LogRecord(1, STAMP, b"x" * 1000)

    served.engine.containers.logs = logs
    _, writer = await asyncio.open_unix_connection(str(served.path), limit=1024)
    writer.write(b"GET /containers/box/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    before = -1
    async with asyncio.timeout(10):
        # Others are served meanwhile; after a while the source does not move any more.
        while told == 0 or told != before:
            before = told
            for _ in range(20):
                assert (await served.get("/_ping")).status == 200
    assert told < 5_000
    writer.close()
