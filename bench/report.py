"""The table and the JSON: what was measured, the ratio, and what Enxame promises."""

from dataclasses import dataclass

from bench.scenarios import Measurements


@dataclass(frozen=True)
class Row:
    """A line of the table. *target* is the most that enxamed may take, in the row's unit; None: nothing promised."""

    key: str
    title: str
    unit: str
    target: float | None = None


ROWS = (
    Row("one_replica_s", "service create → 1 replica runs", "s", 0.10),
    Row("fifty_replicas_s", "service create → 50 replicas run", "s", 1.5),
    Row("fifty_to_hundred_s", "scale 50 → 100", "s", 1.7),
    Row("rolling_update_s", "rolling update of 50 by tens", "s", 3.0),
    Row("remove_fifty_s", "remove 50", "s", 1.5),
    Row("remove_one_s", "remove 1", "s"),
    Row("create_p50_ms", "service create call, p50", "ms", 2.5),
    Row("create_p99_ms", "service create call, p99", "ms"),
    Row("inspect_p50_ms", "service inspect call, p50", "ms", 1.5),
    Row("inspect_p99_ms", "service inspect call, p99", "ms"),
    Row("list_sixty_p50_ms", "list of 60 services, p50", "ms"),
    Row("command_service_ls_ms", "service ls, the command, p50", "ms", 120),
    Row("container_run_ms", "container create and start, p50", "ms"),
    Row("container_remove_ms", "container remove by force, p50", "ms"),
    Row("run_rm_ms", "run --rm IMAGE true", "ms"),
    Row("hundred_by_eight_s", "100 containers, 8 at a time", "s"),
    Row("list_two_hundred_ms", "list of 200 containers", "ms", 20),
    Row("exec_ms", "exec true", "ms", 60),
    Row("million_lines_s", "logs of 1 000 000 lines", "s", 0.39),
    Row("pull_s", "pull of 40 MB from loopback", "s", 1.5),
    Row("idle_rss_mb", "memory, idle (RSS)", "MB", 80),
    Row("idle_pss_mb", "memory, idle (PSS)", "MB"),
    Row("hundred_rss_mb", "memory, 100 containers (RSS)", "MB", 150),
    Row("monitor_rss_mb", "monitor of a container (RSS)", "MB", 3),
    Row("monitor_pss_mb", "monitor of a container (PSS)", "MB"),
    Row("join_s", "5 machines: joining as a worker", "s", 0.4),
    Row("join_manager_s", "5 machines: joining as a manager", "s"),
    Row("cluster_create_p50_ms", "3 managers: service create call, p50", "ms", 6),
    Row("cluster_create_p99_ms", "3 managers: service create call, p99", "ms"),
    Row("cluster_fifty_s", "5 machines, 3 managers: 50 replicas run", "s", 1.6),
    Row("node_down_s", "a worker cut off → it is marked down", "s", 3.5),
    Row("tasks_elsewhere_s", "a worker cut off → its tasks run elsewhere", "s", 4.0),
    Row("write_after_leader_s", "the leader cut off → a write is taken", "s", 2.0),
    Row("false_alarms", "10 busy minutes: nodes accused", "", 0),
    Row("slowest_list_s", "10 busy minutes: slowest list of nodes", "s"),
    Row("fifty_cpu_s", "processor time, 50 up, updated, gone", "s"),
)


def table(results: dict[str, Measurements]) -> str:
    """The rows that were measured, docker's figure and ours side by side; a ratio above 1 is in our favour."""
    dockerd, enxamed = results.get("dockerd", {}), results.get("enxamed", {})
    lines = [("", "dockerd", "enxamed", "ratio", "target", "")]
    for row in ROWS:
        theirs, ours = dockerd.get(row.key), enxamed.get(row.key)
        if theirs is None and ours is None:
            continue
        ratio = f"{theirs / ours:.1f}x" if theirs and ours else ""
        target = "" if row.target is None else f"<= {row.target:g} {row.unit}"
        verdict = "" if row.target is None or ours is None else ("met" if ours <= row.target else "MISSED")
        lines.append((row.title, _figure(theirs, row.unit), _figure(ours, row.unit), ratio, target, verdict))
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    return "\n".join(
        f"{line[0]:<{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(line[1:5], widths[1:5], strict=True))
        + f"  {line[5]}"
        for line in lines
    )


def as_json(results: dict[str, Measurements]) -> dict[str, object]:
    """The same for programs."""
    dockerd, enxamed = results.get("dockerd", {}), results.get("enxamed", {})
    return {
        row.key: {
            "title": row.title,
            "unit": row.unit,
            "dockerd": dockerd.get(row.key),
            "enxamed": enxamed.get(row.key),
            "ratio": dockerd[row.key] / enxamed[row.key] if dockerd.get(row.key) and enxamed.get(row.key) else None,
            "target": row.target,
        }
        for row in ROWS
        if row.key in dockerd or row.key in enxamed
    }


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} {unit}" if value < 10 else f"{value:.1f} {unit}"
