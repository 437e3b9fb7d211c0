"""How fast containers get answers from the embedded resolver: ``python -m bench.name_resolution`` (as root).

One daemon's network side in a namespace of its own, on the event loop that the daemon uses; one container asks, with a
number of questions under way, from another process. Names with one and with five addresses, and reverse.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from enxame.engine.networks import NetworkManager
from enxame.engine.sandbox import SandboxRequest
from enxame.model.container import EndpointSettings
from enxame.model.network import NetworkCreateRequest
from enxame.network.namespaces import entered
from tests.engine.network_lab import Lab

_SECONDS = 3.0
_UNDER_WAY = 16


def _query(name: str, kind: int) -> bytes:
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    return b"\x01\x00" + struct.pack("!HHHH", 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def _ask(path: str, name: str, kind: int, results: multiprocessing.Queue[dict[str, float]]) -> None:
    with entered(Path(path)):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect(("127.0.0.11", 53))
    client.settimeout(5)
    question, sent, taken = _query(name, kind), {}, []
    begin = time.perf_counter()
    for number in range(_UNDER_WAY):
        sent[number] = time.perf_counter()
        client.send(struct.pack("!H", number) + question)
    while (now := time.perf_counter()) < begin + _SECONDS:
        reply = client.recv(4096)
        assert reply[3] & 0x0F == 0, reply
        (number,) = struct.unpack_from("!H", reply)
        now = time.perf_counter()
        taken.append(now - sent[number])
        sent[number] = now
        client.send(struct.pack("!H", number) + question)
    taken.sort()
    results.put(
        {
            "answers_per_second": round(len(taken) / (now - begin)),
            "p50_ms": round(taken[len(taken) // 2] * 1e3, 3),
            "p99_ms": round(taken[len(taken) * 99 // 100] * 1e3, 3),
        }
    )


async def measure(lab: Lab, directory: Path) -> dict[str, dict[str, float]]:
    """Answers a second and how long they take, by the kind of question."""
    manager = NetworkManager(directory / "data", directory / "exec", publish=lambda *_args, **_kw: None)
    with lab.within_host():
        await manager.start()
    figures: dict[str, dict[str, float]] = {}
    ids = [f"{number:064x}" for number in range(6)]
    try:
        await manager.create(NetworkCreateRequest(name="app"))
        for number, id_ in enumerate(ids):
            endpoints = {"app": EndpointSettings(aliases=["pool"] if number < 5 else None)}
            info = await manager.connect(id_, SandboxRequest(name=f"c{number}", endpoints=endpoints))
        reverse = ".".join(reversed(info.endpoints["app"].ip_address.split("."))) + ".in-addr.arpa"
        for what, name, kind in (("one address", "c1", 1), ("five addresses", "pool", 1), ("reverse", reverse, 12)):
            context = multiprocessing.get_context("spawn")
            results = context.Queue()
            process = context.Process(target=_ask, args=(info.netns_path, name, kind, results))
            process.start()
            figures[what] = await asyncio.to_thread(results.get, True, 30)
            await asyncio.to_thread(process.join)
    finally:
        for id_ in ids:
            await manager.release(id_)
        await manager.stop()
    return figures


def main() -> None:
    """Print the figures as JSON."""
    if os.geteuid() != 0:
        sys.exit("namespaces need root")
    lab = Lab()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        try:
            figures = uvloop.run(measure(lab, Path(directory)))
        finally:
            lab.close()
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
