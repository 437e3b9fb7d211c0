"""What a container uses and runs: stats and top."""

from __future__ import annotations

import asyncio
import shlex
import shutil
from collections.abc import AsyncIterator

from enxame.engine import cgroups
from enxame.engine.bundle import cgroup_path
from enxame.engine.cgroups import CgroupLayout
from enxame.engine.container import Container
from enxame.engine.container_stats import read_stats
from enxame.engine.processes import run
from enxame.errors import Conflict, EnxameError, InvalidArgument
from enxame.model.container_view import TopResult
from enxame.model.stats import ContainerStats

_SAMPLE_PERIOD = 1.0
_PS_DEADLINE = 10.0


async def stream_stats(
    layout: CgroupLayout, container: Container, *, stream: bool, compared: bool = True
) -> AsyncIterator[ContainerStats]:
    """A sample a second while the container exists, or a single one: ``compared`` with one of a second before."""
    last = ContainerStats(name=f"/{container.name}", id=container.id)
    path = cgroup_path(container.definition)
    removed = container.removed()
    if not stream and compared and container.running:
        last = await asyncio.to_thread(read_stats, layout, path, container.condition.pid, last)
        await asyncio.wait([removed], timeout=_SAMPLE_PERIOD)
    while True:
        if container.running:
            last = await asyncio.to_thread(read_stats, layout, path, container.condition.pid, last)
            yield last
        else:
            last = ContainerStats(name=last.name, id=last.id)
            yield last
        if not stream:
            return
        await asyncio.wait([removed], timeout=_SAMPLE_PERIOD)
        if removed.done():
            return


async def list_processes(layout: CgroupLayout, container: Container, ps_args: str) -> TopResult:
    """The container's processes as the host's ``ps`` shows them.

    Raises:
        Conflict: it does not run.
        InvalidArgument: ps refuses the arguments.
        EnxameError: it shows no PID column.
    """
    if not container.running:
        raise Conflict(f"Container {container.id} is not running")
    wanted = set(await asyncio.to_thread(cgroups.processes, layout, cgroup_path(container.definition)))
    ps = shutil.which("ps")
    if ps is None:
        raise EnxameError("ps not found: install Debian's package procps")
    try:
        arguments = shlex.split(ps_args or "-ef")
    except ValueError as error:
        raise InvalidArgument(f"Error running ps: {error}") from error
    code, said = await run([ps, *arguments], timeout=_PS_DEADLINE)
    if code:
        first = said.strip().partition("\n")[0]
        raise InvalidArgument(f"ps: {first or f'exit status {code}'}")
    return select_rows(said, wanted)


def select_rows(table: str, pids: set[int]) -> TopResult:
    """The rows of a ps table that show one of ``pids``. Raises EnxameError without a PID column."""
    lines = table.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise EnxameError("Couldn't find PID field in ps output")
    column = titles.index("PID")
    rows = []
    for line in lines[1:]:
        fields = line.split(None, len(titles) - 1)
        if len(fields) > column and fields[column].isdigit() and int(fields[column]) in pids:
            rows.append(fields)
    return TopResult(titles=titles, processes=rows)
