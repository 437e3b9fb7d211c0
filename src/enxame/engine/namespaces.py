"""Which Linux namespaces a container gets: new ones, the host's, or those of another container."""

from __future__ import annotations

from collections.abc import Callable

from enxame.engine.container_record import Definition
from enxame.errors import Conflict, InvalidArgument
from enxame.model.container import HostConfig

#: Another container by reference, and its process (0 when it does not run).
FindOther = Callable[[str], tuple[Definition, int]]


def choose_namespaces(host: HostConfig, netns_path: str, cgroup_version: int, find: FindOther) -> dict[str, str]:
    """By the runtime's names: a path to join, empty for a new one; what is missing is the host's.

    Raises:
        Conflict: the container to share with does not run.
        InvalidArgument: an unknown mode.
    """
    namespaces = {"mount": ""}
    if netns_path or host.network_mode != "host":
        namespaces["network"] = netns_path
    for kind, mode in (("pid", host.pid_mode), ("ipc", host.ipc_mode), ("uts", host.uts_mode)):
        if mode.startswith("container:"):
            other, pid = find(mode.partition(":")[2])
            if not pid:
                raise Conflict(f"cannot join {kind.upper()} of a non running container: {other.id}")
            namespaces[kind] = f"/proc/{pid}/ns/{kind}"
        elif mode in {"", "private", "shareable", "none"}:
            namespaces[kind] = ""
        elif mode != "host":
            raise InvalidArgument(f"invalid {kind.upper()} mode: {mode}")
    wanted = host.cgroupns_mode or ("private" if cgroup_version == 2 and not host.privileged else "host")
    if wanted == "private":
        namespaces["cgroup"] = ""
    return namespaces
