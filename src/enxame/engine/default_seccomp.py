"""The default seccomp profile: what the machine ships, narrowed to what Docker lets containers ask of the kernel.

The shipped profile is made for programs that nest containers: it lets everybody make user namespaces and mounts in
them, which opens a large part of the kernel to whoever breaks into a service. Docker asks for capabilities there.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["narrowed"]

_ALLOW: Final = {"action": "SCMP_ACT_ALLOW"}
_REFUSE: Final = {"action": "SCMP_ACT_ERRNO", "errnoRet": 1}  # EPERM
_UNKNOWN: Final = {"action": "SCMP_ACT_ERRNO", "errnoRet": 38}  # ENOSYS: libraries fall back on what is older
_ADMIN: Final = "CAP_SYS_ADMIN"
_S390: Final = ["s390", "s390x"]

#: Namespaces, mounts and more, to be had with the first of these capabilities or any other that the call stands at.
_WITH: Final[dict[str, tuple[str, ...]]] = {
    _ADMIN: (
        *("unshare", "setns", "mount", "umount", "umount2", "mount_setattr", "move_mount", "open_tree"),
        *("fsconfig", "fsmount", "fsopen", "fspick", "quotactl_fd", "syslog"),
    ),
    "CAP_SYSLOG": ("syslog",),
    "CAP_SYS_BOOT": ("reboot",),
    "CAP_SYS_NICE": ("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"),
    "CAP_SYS_PTRACE": ("pidfd_getfd",),
}
#: Keys are not of any namespace; a container's root is the runtime's to choose.
_NEVER: Final = ("add_key", "keyctl", "request_key", "pivot_root")
_ALWAYS: Final = ("io_pgetevents", "vmsplice", "futex_waitv")
#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_NAMESPACE_FLAGS: Final = (0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000)
_VSOCK: Final = 40


def narrowed(profile: dict[str, Any]) -> dict[str, Any]:
    """The profile, in Docker's format, with rules of ours instead of its own for what is named here."""
    gates: dict[str, list[str]] = {}
    for capability, names in _WITH.items():
        for name in names:
            gates.setdefault(name, []).append(capability)
    ours = {*gates, *_NEVER, *_ALWAYS, "clone", "clone3", "socket"}
    rules = [
        {**rule, "names": kept}
        for rule in profile.get("syscalls") or []
        if (kept := [name for name in rule.get("names") or [rule["name"]] if name not in ours])
    ]
    rules.append({"names": list(_ALWAYS), **_ALLOW})
    rules.append({"names": list(_NEVER), **_REFUSE})
    for name, capabilities in gates.items():
        # One rule a capability, for none of those before it: a call may be ruled on only once.
        for number, capability in enumerate(capabilities):
            rules.append(
                {
                    "names": [name],
                    **_ALLOW,
                    "includes": {"caps": [capability]},
                    "excludes": {"caps": capabilities[:number]},
                }
            )
        rules.append({"names": [name], **_REFUSE, "excludes": {"caps": capabilities}})
    # The host's side of a virtual machine's sockets knows no namespaces.
    rules.append({"names": ["socket"], **_ALLOW, "args": [{"index": 0, "value": _VSOCK, "op": "SCMP_CMP_NE"}]})
    return {**profile, "syscalls": [*rules, *_cloning()]}


def _cloning() -> list[dict[str, Any]]:
    """Threads and processes for all, namespaces for administrators."""
    rules: list[dict[str, Any]] = [
        {"names": ["clone", "clone3"], **_ALLOW, "includes": {"caps": [_ADMIN]}},
        {"names": ["clone3"], **_UNKNOWN, "excludes": {"caps": [_ADMIN]}},  # its flags are out of a filter's sight
    ]
    everywhere_else: dict[str, Any] = {"excludes": {"caps": [_ADMIN], "arches": _S390}}
    on_s390: dict[str, Any] = {"includes": {"arches": _S390}, "excludes": {"caps": [_ADMIN]}}
    for index, where in ((0, everywhere_else), (1, on_s390)):
        rules.append({"names": ["clone"], **_ALLOW, "args": [_masked(index, sum(_NAMESPACE_FLAGS), 0)], **where})
        rules += [
            {"names": ["clone"], **_REFUSE, "args": [_masked(index, flag, flag)], **where} for flag in _NAMESPACE_FLAGS
        ]
    return rules


def _masked(index: int, mask: int, value: int) -> dict[str, Any]:
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
