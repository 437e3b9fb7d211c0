"""``enxame stats``: what containers use, live."""

import threading
import time
from typing import Any

from enxame.cli.client import Client, quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError, DaemonError
from enxame.cli.flags import switch
from enxame.cli.humanise import binary_size_words, size_words
from enxame.cli.listflags import format_flag, no_trunc_flag
from enxame.cli.session import Session
from enxame.cli.table import Table

Json = dict[str, Any]
_REFRESH = 0.5


def cpu_percent(sample: Json) -> float:
    """Share of one CPU times 100 between a sample and the one before."""
    now, before = sample.get("cpu_stats") or {}, sample.get("precpu_stats") or {}
    used = now.get("cpu_usage", {}).get("total_usage", 0) - before.get("cpu_usage", {}).get("total_usage", 0)
    passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    cpus = now.get("online_cpus") or len(now.get("cpu_usage", {}).get("percpu_usage") or []) or 1
    return used / passed * cpus * 100 if passed > 0 and used > 0 else 0.0


def memory_used(sample: Json) -> float:
    """Bytes without the cache that the kernel can take back."""
    memory = sample.get("memory_stats") or {}
    stats, usage = memory.get("stats") or {}, memory.get("usage", 0)
    for key in ("total_inactive_file", "inactive_file"):
        if stats.get(key, usage) < usage:
            return float(usage - stats[key])
    return float(usage)


def _io(sample: Json) -> tuple[int, int]:
    read = written = 0
    for entry in (sample.get("blkio_stats") or {}).get("io_service_bytes_recursive") or []:
        operation = entry.get("op", "").lower()
        read += entry["value"] if operation == "read" else 0
        written += entry["value"] if operation == "write" else 0
    return read, written


def _network(sample: Json) -> tuple[int, int]:
    networks = (sample.get("networks") or {}).values()
    return sum(n.get("rx_bytes", 0) for n in networks), sum(n.get("tx_bytes", 0) for n in networks)


def _pair(a: float, b: float) -> str:
    return f"{size_words(a, 3)} / {size_words(b, 3)}"


def _table(*, trunc: bool) -> Table:
    def shown(read: Any, empty: str = "--") -> Any:
        return lambda row: read(row["sample"]) if row["sample"] else empty

    def percentage(sample: Json) -> str:
        limit = (sample.get("memory_stats") or {}).get("limit", 0)
        return f"{memory_used(sample) / limit * 100 if limit else 0.0:.2f}%"

    def memory(sample: Json) -> str:
        limit = (sample.get("memory_stats") or {}).get("limit", 0)
        return f"{binary_size_words(memory_used(sample))} / {binary_size_words(limit)}"

    return Table(
        {
            "Container": lambda r: r["asked"],
            "ID": lambda r: r["id"][:12] if trunc else r["id"],
            "Name": lambda r: r["name"] or "--",
            "CPUPerc": shown(lambda s: f"{cpu_percent(s):.2f}%"),
            "MemUsage": shown(memory, "-- / --"),
            "MemPerc": shown(percentage),
            "NetIO": shown(lambda s: _pair(*_network(s))),
            "BlockIO": shown(lambda s: _pair(*_io(s))),
            "PIDs": shown(lambda s: str((s.get("pids_stats") or {}).get("current", 0))),
        },
        (
            ("ID", "CONTAINER ID"),
            ("Name", "NAME"),
            ("CPUPerc", "CPU %"),
            ("MemUsage", "MEM USAGE / LIMIT"),
            ("MemPerc", "MEM %"),
            ("NetIO", "NET I/O"),
            ("BlockIO", "BLOCK I/O"),
            ("PIDs", "PIDS"),
        ),
        {"Container": "CONTAINER"},
    )


def _follow(endpoint: Any, version: str, row: Json, failed: list[str]) -> None:
    client = Client(endpoint)
    client.version = version
    try:
        with client.stream("GET", f"/containers/{quoted(row['asked'])}/stats", {"stream": True}) as stream:
            for sample in stream.messages():
                row.update(sample=sample, id=sample.get("id", row["id"]), name=sample.get("name", "").removeprefix("/"))
    except CliError as problem:
        failed.append(problem.message)
    row["over"] = True


@command(
    "stats",
    "[OPTIONS] [CONTAINER...]",
    "Display a live stream of container(s) resource usage statistics",
    flags=[
        switch("a,all", "Show all containers (default shows just running)"),
        format_flag(),
        switch("no-stream", "Disable streaming stats and only pull the first result"),
        no_trunc_flag(),
    ],
    count=(0, -1),
    completes="running",
)
def stats(cli: Session, flags: Flags, args: Args) -> None:
    """One table, or one after the other."""
    table = _table(trunc=not flags["no-trunc"])
    names = args or tuple(c["Id"] for c in cli.client.get("/containers/json", {"all": flags["all"]}) or [])
    if flags["no-stream"]:
        rows, problems = [], []
        for name in names:
            try:
                sample = cli.client.get(f"/containers/{quoted(name)}/stats", {"stream": "0"})
            except DaemonError as problem:
                problems.append(problem.message)
            else:
                rows.append(
                    {
                        "asked": name,
                        "id": sample.get("id", name),
                        "name": sample.get("name", "").removeprefix("/"),
                        "sample": sample,
                    }
                )
        if rows or not problems:
            table.write(cli.out, rows, flags["format"])
        if problems:
            raise CliError("\n".join(problems))
        return
    live: list[Json] = [{"asked": n, "id": n, "name": "", "sample": None} for n in names]
    failed: list[str] = []
    for row in live:
        threading.Thread(target=_follow, args=(cli.endpoint, cli.client.version, row, failed), daemon=True).start()
    while True:
        time.sleep(_REFRESH)
        if failed and not any(r["sample"] for r in live):
            raise CliError("\n".join(failed))
        if args and all(r.get("over") for r in live):
            return
        if cli.out_is_terminal():
            cli.out.write("\x1b[2J\x1b[H")
        table.write(cli.out, [r for r in live if not r.get("over")], flags["format"])
        cli.out.flush()
