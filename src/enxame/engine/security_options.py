"""``SecurityOpt``: which seccomp profile a container gets."""

from __future__ import annotations

from typing import Any

import msgspec

from enxame.engine import seccomp
from enxame.errors import InvalidArgument
from enxame.model.container import HostConfig

_KNOWN = ("seccomp", "apparmor", "label", "no-new-privileges", "systempaths", "writable-cgroups")


def check(host: HostConfig) -> None:
    """Raise InvalidArgument for an option nobody knows, as Docker words it."""
    for option in host.security_opt or []:
        name = option.replace("=", ":", 1).partition(":")[0]
        if name not in _KNOWN:
            raise InvalidArgument(f'invalid --security-opt 2: "{option}"')


def seccomp_profile(host: HostConfig, capabilities: list[str]) -> msgspec.Raw | dict[str, Any] | None:
    """The compiled profile; None is no filter. Raises InvalidArgument for a profile that is none."""
    chosen = ""
    for option in host.security_opt or []:
        name, _, value = option.replace("=", ":", 1).partition(":")
        if name == "seccomp":
            chosen = value
    if host.privileged or chosen == "unconfined":
        return None
    granted = frozenset(capabilities)
    if chosen in {"", "default", "builtin"}:
        return seccomp.default_profile(granted)
    return seccomp.compile_profile(seccomp.parse_profile(chosen), granted)
