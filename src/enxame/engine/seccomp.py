"""Seccomp profiles: Docker's format, with conditions on architecture and capabilities, to the runtime's plain one."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import msgspec

from enxame.engine.default_seccomp import narrowed
from enxame.errors import InvalidArgument

DEFAULT_PROFILE = Path("/usr/share/containers/seccomp.json")

#: The kernel's machine name to Go's and to libseccomp's.
_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
}

Profile = dict[str, Any]


def compile_profile(profile: Profile, capabilities: frozenset[str], machine: str | None = None) -> Profile:
    """The runtime's ``linux.seccomp`` for a container with these capabilities on this architecture."""
    architecture, native = _ARCHITECTURES.get(machine or os.uname().machine, ("", ""))
    result: Profile = {"defaultAction": profile["defaultAction"]}
    if "defaultErrnoRet" in profile:
        result["defaultErrnoRet"] = profile["defaultErrnoRet"]
    architectures = list(profile.get("architectures") or [])
    for entry in profile.get("archMap") or []:
        if entry["architecture"] == native:
            architectures += [native, *(entry.get("subArchitectures") or [])]
    if architectures:
        result["architectures"] = architectures
    if profile.get("flags"):
        result["flags"] = profile["flags"]
    result["syscalls"] = [
        _rule(rule) for rule in profile.get("syscalls") or [] if _applies(rule, architecture, capabilities)
    ]
    return result


def _applies(rule: dict[str, Any], architecture: str, capabilities: frozenset[str]) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if includes.get("arches") and architecture not in includes["arches"]:
        return False
    if includes.get("caps") and not capabilities.issuperset(includes["caps"]):
        return False
    if architecture in (excludes.get("arches") or []):
        return False
    return capabilities.isdisjoint(excludes.get("caps") or [])


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {"names": rule.get("names") or [rule["name"]], "action": rule["action"]}
    if rule.get("errnoRet") is not None:
        plain["errnoRet"] = rule["errnoRet"]
    if rule.get("args"):
        plain["args"] = [
            {key: argument[key] for key in ("index", "value", "valueTwo", "op") if key in argument}
            for argument in rule["args"]
        ]
    return plain


def parse_profile(text: str | bytes) -> Profile:
    """A profile from its JSON. Raises InvalidArgument."""
    try:
        profile = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"decoding seccomp profile failed: {error}") from error
    if not isinstance(profile, dict) or "defaultAction" not in profile:
        raise InvalidArgument("decoding seccomp profile failed: no defaultAction")
    return profile


@functools.lru_cache(maxsize=8)
def default_profile(capabilities: frozenset[str]) -> msgspec.Raw | None:
    """The default profile as ready JSON for these capabilities; None where the machine ships none."""
    try:
        text = DEFAULT_PROFILE.read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.Raw(msgspec.json.encode(compile_profile(narrowed(parse_profile(text)), capabilities)))
