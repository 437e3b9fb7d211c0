"""Linux capabilities: Docker's default set, and what ``CapAdd``, ``CapDrop`` and ``Privileged`` make of it."""

from __future__ import annotations

from pathlib import Path

from enxame.errors import InvalidArgument

#: By number: the kernel's list.
_KERNEL_LIST = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL
SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
_DEFAULT_LIST = """
CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
AUDIT_WRITE
"""
ALL = tuple(f"CAP_{name}" for name in _KERNEL_LIST.split())
DEFAULT = tuple(f"CAP_{name}" for name in _DEFAULT_LIST.split())


def own_capabilities(status: str | None = None) -> frozenset[str]:
    """What this process may hand on: its bounding set, from ``/proc/self/status``."""
    text = Path("/proc/self/status").read_text() if status is None else status
    for line in text.splitlines():
        if line.startswith("CapBnd:"):
            bits = int(line.split()[1], 16)
            return frozenset(name for number, name in enumerate(ALL) if bits >> number & 1)
    return frozenset(ALL)


def _normal(name: str, field: str) -> str:
    upper = name.upper()
    if upper == "ALL":
        return upper
    known = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if known not in ALL:
        raise InvalidArgument(f'invalid {field}: unknown capability: "{known}"')
    return known


def effective(add: list[str], drop: list[str], *, privileged: bool, available: frozenset[str]) -> list[str]:
    """The capabilities of a container, in the kernel's order, at most the ``available`` ones.

    Raises:
        InvalidArgument: a name that the kernel does not know.
    """
    added, dropped = {_normal(name, "CapAdd") for name in add}, {_normal(name, "CapDrop") for name in drop}
    if privileged:
        wanted = set(ALL)
    elif "ALL" in added:
        wanted = set(ALL) - dropped
    elif "ALL" in dropped:
        wanted = added
    else:
        wanted = (set(DEFAULT) - dropped) | added
    return [name for name in ALL if name in wanted and name in available]
