"""``--metrics-addr``: engine and swarm in numbers as Prometheus reads them, named as dockerd and swarmkit name them."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

from aiohttp import web

from enxame import __version__
from enxame.api.context import ApiContext
from enxame.errors import Unavailable
from enxame.model.filters import Filters

if TYPE_CHECKING:
    from enxame.manager.manager import Manager

_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_STARTED: Final = time.time()

#: (labels, value) of a metric.
Samples = Iterable[tuple[Mapping[str, str], float]]


class MetricsHandler:
    """Answers ``GET /metrics`` and nothing else; the callable that aiohttp's server wants."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request."""
        if request.method not in ("GET", "HEAD") or request.path != "/metrics":
            return web.Response(status=404, text="404 page not found\n")
        text = "".join(_render(self._api))
        return web.Response(body=text.encode(), headers={"Content-Type": _CONTENT_TYPE})


def _render(api: ApiContext) -> Iterator[str]:
    facts, swarm = api.facts, api.membership.info()
    states = Counter(container.state for container in api.engine.containers.list(all=True, filters=Filters()))
    info = {"version": __version__, "daemon_id": facts.id, "kernel": os.uname().release, "os_type": "linux"}
    yield _metric("engine_daemon_engine_info", "gauge", "The engine and its machine", [(info, 1)])
    yield _metric("engine_daemon_engine_cpus_cpus", "gauge", "Processors of the machine", _one(os.cpu_count() or 1))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield _metric("engine_daemon_engine_memory_bytes", "gauge", "Memory of the machine", _one(memory))
    stopped = sum(states.values()) - states["running"] - states["paused"]
    by_state = [({"state": name}, states[name]) for name in ("running", "paused")] + [({"state": "stopped"}, stopped)]
    yield _metric("engine_daemon_container_states_containers", "gauge", "Containers by state", by_state)
    yield _metric("engine_daemon_images", "gauge", "Images", _one(len(api.engine.images.list())))
    yield _metric(
        "engine_daemon_events_subscribers", "gauge", "Who listens to events", _one(api.engine.events.listeners)
    )
    yield from _process()
    yield _metric("swarm_node_manager", "gauge", "Whether this node is a manager", _one(swarm.control_available))
    if swarm.node_id:
        yield _metric("swarm_node_info", "gauge", "This node in its swarm", [({"node_id": swarm.node_id}, 1)])
    try:
        manager = api.membership.manager
    except Unavailable:
        return
    yield from _swarm(manager)


def _process() -> Iterator[str]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm", encoding="ascii") as statm:
        resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    yield _metric("process_cpu_seconds_total", "counter", "Processor time", _one(usage.ru_utime + usage.ru_stime))
    yield _metric("process_resident_memory_bytes", "gauge", "Resident memory", _one(resident))
    yield _metric("process_open_fds", "gauge", "Open descriptors", _one(len(os.listdir("/proc/self/fd"))))
    yield _metric("process_threads", "gauge", "Threads", _one(threading.active_count()))
    yield _metric("process_start_time_seconds", "gauge", "When the daemon started", _one(_STARTED))


def _swarm(manager: Manager) -> Iterator[str]:
    everything = Filters()
    nodes = Counter(node.status.state for node in manager.nodes.list(everything))
    tasks = Counter(task.status.state.value for task in manager.tasks.list(everything))
    counts = {
        "services": len(manager.services.list(everything)),
        "networks": len(manager.networks.list(everything)),
        "secrets": len(manager.secrets.list(everything)),
        "configs": len(manager.configs.list(everything)),
    }
    yield _metric("swarm_manager_nodes", "gauge", "Nodes by state", [({"state": key}, n) for key, n in nodes.items()])
    yield _metric(
        "swarm_manager_tasks_total",
        "gauge",
        "Tasks by state",
        [({"state": key}, n) for key, n in sorted(tasks.items())],
    )
    backups = manager.backup_schedules.status()
    if backups.schedule is not None:
        last = datetime.fromisoformat(backups.last).timestamp() if backups.last else 0
        yield _metric(
            "swarm_manager_backup_last_success_timestamp_seconds", "gauge", "Newest scheduled backup", _one(last)
        )
        yield _metric("swarm_manager_backups_total", "counter", "Scheduled backups made", _one(backups.made))
        yield _metric(
            "swarm_manager_backup_failures_total", "counter", "Scheduled backups that failed", _one(backups.failures)
        )
    for what, count in counts.items():
        yield _metric(f"swarm_manager_{what}_total", "gauge", f"{what.capitalize()} of the swarm", _one(count))


def _one(value: float) -> Samples:
    return [({}, value)]


def _metric(name: str, kind: str, text: str, samples: Samples) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        lines.append(f"{name}{{{inside}}} {value:.17g}" if inside else f"{name} {value:.17g}")
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
