"""``enxame update``: limits and restart policy of containers that exist."""

from typing import Any

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError, DaemonError
from enxame.cli.flags import text, value
from enxame.cli.options.limits import parse_restart_policy
from enxame.cli.options.numbers import parse_bytes, parse_cpus, parse_int, parse_swap
from enxame.cli.session import Session

_FIELDS = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares",
    "cpus": "NanoCpus",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "pids-limit": "PidsLimit",
}


@command(
    "update",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Update configuration of one or more containers",
    flags=[
        value(
            "blkio-weight",
            "uint16",
            parse_int,
            "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
        ),
        value("cpu-period", "int", parse_int, "Limit CPU CFS (Completely Fair Scheduler) period"),
        value("cpu-quota", "int", parse_int, "Limit CPU CFS (Completely Fair Scheduler) quota"),
        value("cpu-rt-period", "int", parse_int, "Limit the CPU real-time period in microseconds"),
        value("cpu-rt-runtime", "int", parse_int, "Limit the CPU real-time runtime in microseconds"),
        value("c,cpu-shares", "int", parse_int, "CPU shares (relative weight)"),
        value("cpus", "decimal", parse_cpus, "Number of CPUs"),
        text("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
        text("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
        value("m,memory", "bytes", parse_bytes, "Memory limit"),
        value("memory-reservation", "bytes", parse_bytes, "Memory soft limit"),
        value("memory-swap", "bytes", parse_swap, "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
        value("pids-limit", "int", parse_int, "Tune container pids limit (set -1 for unlimited)"),
        text("restart", "Restart policy to apply when a container exits"),
    ],
    count=(1, -1),
    completes="container",
)
def update(cli: Session, flags: Flags, args: Args) -> None:
    """Changes what is given and prints the containers' names."""
    if not flags.given:
        raise CliError("you must provide one or more flags when using this command")
    request: dict[str, Any] = {key: flags[name] for name, key in _FIELDS.items() if flags.changed(name)}
    if flags.changed("restart"):
        try:
            request["RestartPolicy"] = parse_restart_policy(flags["restart"])
        except ValueError as problem:
            raise CliError(str(problem)) from None
    problems: list[str] = []
    warnings: list[str] = []
    for name in args:
        try:
            answer = cli.client.post(f"/containers/{quoted(name)}/update", request) or {}
        except DaemonError as problem:
            problems.append(problem.message)
        else:
            cli.say(name)
            warnings += answer.get("Warnings") or []
    if warnings:
        cli.say("\n".join(warnings))
    if problems:
        raise CliError("\n".join(problems))
