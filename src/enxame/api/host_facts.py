"""What ``/info`` and ``/version`` tell of this machine: kernel, processors, memory, cgroups. Blocking: for a thread."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from enxame.engine.seccomp import DEFAULT_PROFILE

#: The kernel's names of architectures → Go's, which ``/version`` uses.
_GO_ARCH: Final = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Memory in bytes. ``cgroup_version``: 1 (also for hybrid set-ups) or 2."""

    kernel: str
    operating_system: str
    os_version: str
    architecture: str
    go_architecture: str
    cpus: int
    memory: int
    cgroup_version: str
    controllers: frozenset[str]
    swap_accounting: bool
    ipv4_forwarding: bool
    #: Containers have a filter of system calls.
    seccomp: bool
    apparmor: bool


def host_facts() -> HostFacts:
    """Look at the machine."""
    uname = platform.uname()
    release = _os_release(Path("/etc/os-release"), Path("/usr/lib/os-release"))
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    if unified.exists():
        version, controllers = "2", frozenset(_read(unified).split())
        swap = any(Path("/sys/fs/cgroup").glob("*/memory.swap.max"))
    else:
        version, controllers = "1", _controllers_v1(_read(Path("/proc/cgroups")))
        swap = Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
    status = _read(Path("/proc/self/status"))
    return HostFacts(
        kernel=uname.release,
        operating_system=release.get("PRETTY_NAME", "Linux"),
        os_version=release.get("VERSION_ID", ""),
        architecture=uname.machine,
        go_architecture=_GO_ARCH.get(uname.machine, uname.machine),
        cpus=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cgroup_version=version,
        controllers=controllers,
        swap_accounting=swap,
        ipv4_forwarding=_read(Path("/proc/sys/net/ipv4/ip_forward")).strip() == "1",
        seccomp="\nSeccomp:" in status and DEFAULT_PROFILE.is_file(),
        apparmor=_read(Path("/sys/module/apparmor/parameters/enabled")).strip() == "Y",
    )


@cache
def program_version(program: str) -> str:
    """First version-like word that ``program --version`` prints; empty when there is no such program."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next((word.strip(",") for word in done.stdout.split() if word[:1].isdigit()), "")


def _os_release(*candidates: Path) -> dict[str, str]:
    for path in candidates:
        text = _read(path)
        if text:
            pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
            return {key: value.strip("\"'") for key, _, value in pairs if value}
    return {}


def _controllers_v1(table: str) -> frozenset[str]:
    rows = (line.split() for line in table.splitlines() if not line.startswith("#"))
    return frozenset(row[0] for row in rows if len(row) == 4 and row[3] == "1")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
