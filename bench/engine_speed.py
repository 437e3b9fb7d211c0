"""How fast the engine alone starts, stops and removes containers: the whole path, API and swarm left out.

Run as root in a network namespace of its own: ``unshare --net .venv/bin/python bench/engine_speed.py [--count 50]``.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import io
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from enxame.engine.engine import Engine, EngineOptions
from enxame.model.container import ContainerCreateRequest, HostConfig
from enxame.model.filters import Filters


def busybox_tar() -> bytes:
    """A root filesystem of the machine's static busybox."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for applet in ("sh", "sleep", "true"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name in ("etc", "proc", "sys", "dev", "tmp"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(directory)
    return buffer.getvalue()


async def timed(label: str, count: int, work: Awaitable[object]) -> None:
    begun, cpu, children = time.perf_counter(), time.process_time(), children_cpu()
    await work
    took = time.perf_counter() - begun
    cpu, children = time.process_time() - cpu, children_cpu() - children
    print(
        f"{label:34s} {took * 1000:8.1f} ms  {took / count * 1000:6.2f} ms each  {count / took:7.1f}/s"
        f"   cpu each: daemon {cpu / count * 1000:.2f} ms, runtime {children / count * 1000:.2f} ms"
    )


def children_cpu() -> float:
    """Seconds of processor time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def at_most(limit: int, jobs: list[Callable[[], Awaitable[object]]]) -> None:
    gate = asyncio.Semaphore(limit)

    async def one(job: Callable[[], Awaitable[object]]) -> None:
        async with gate:
            await job()

    await asyncio.gather(*(one(job) for job in jobs))


async def main(count: int, parallel: int, mode: str, runtime: str, fill: int) -> None:
    root = Path(tempfile.mkdtemp(prefix="enxame-bench-"))
    engine = Engine(EngineOptions(data_root=root / "data", exec_root=root / "run", runtime=runtime))
    begun = time.perf_counter()
    await engine.start()
    print(
        f"start of the engine {1000 * (time.perf_counter() - begun):.0f} ms, mode {mode}, runtime {runtime or 'best'}"
    )
    try:

        async def stream() -> AsyncIterator[bytes]:
            yield busybox_tar()

        await engine.images.import_(stream(), repository="busybox", tag="latest", message="", changes=[])
        command = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]
        request = ContainerCreateRequest(image="busybox", cmd=command, host_config=HostConfig(network_mode=mode))
        containers = engine.containers

        async def run() -> str:
            made = await containers.create("", request)
            await containers.start(made.id)
            return made.id

        for _ in range(3):
            await containers.remove(await run(), force=True)
        singles: list[str] = []

        async def sequential() -> None:
            for _ in range(10):
                singles.append(await run())  # noqa: PERF401 - one after another is the point

        await timed("create+start, one after another", 10, sequential())
        await timed("stop, one after another", 10, at_most(1, [functools.partial(containers.stop, i) for i in singles]))
        await timed(
            "remove, one after another", 10, at_most(1, [functools.partial(containers.remove, i) for i in singles])
        )
        await timed(f"create+start, {parallel} at a time", count, at_most(parallel, [run] * count))
        running = [c.id for c in containers.list(filters=Filters())]

        async def look() -> None:
            for _ in range(1000):
                containers.inspect(running[0])

        await timed("inspect", 1000, look())
        await timed("stop, all at once", count, at_most(1000, [functools.partial(containers.stop, i) for i in running]))
        await timed(
            "remove, all at once", count, at_most(1000, [functools.partial(containers.remove, i) for i in running])
        )
        if fill:
            await timed(f"{fill} more", fill, at_most(parallel, [run] * fill))
            monitors = [int(p.read_text()) for p in (root / "run/containers").glob("*/conmon.pid")]
            sizes = [resident(pid) for pid in monitors]
            print(f"with {fill} containers: daemon {resident(os.getpid()):.1f} MB, monitor {max(sizes):.1f} MB")
            running = [c.id for c in containers.list(filters=Filters())]
            await timed(
                "force remove, all at once",
                fill,
                at_most(1000, [functools.partial(containers.remove, i, force=True) for i in running]),
            )
    finally:
        for summary in engine.containers.list(all=True, filters=Filters()):
            await engine.containers.remove(summary.id, force=True)
        await engine.stop()
        shutil.rmtree(root, ignore_errors=True)


def resident(pid: int) -> float:
    """Megabytes of memory that process ``pid`` has to itself or shares."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--parallel", type=int, default=10)
    parser.add_argument("--mode", default="none")
    parser.add_argument("--runtime", default="")
    parser.add_argument("--fill", type=int, default=0, help="containers for the measurement of memory")
    parser.add_argument("--uvloop", action="store_true")
    given = parser.parse_args()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    if given.uvloop:
        import uvloop

        uvloop.install()
    sys.exit(asyncio.run(main(given.count, given.parallel, given.mode, given.runtime, given.fill)))
