"""Device nodes that a container is given."""

from __future__ import annotations

import os
import re
import stat
from typing import Any, Final

from enxame.engine.oci_spec import Device
from enxame.errors import EnxameError
from enxame.model.container import HostConfig

#: ``c 1:3 rwm``: kind, numbers or ``*``, access.
DEVICE_RULE: Final = re.compile(r"([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})")


def cgroup_rules(host: HostConfig) -> list[dict[str, Any]]:
    """``--device-cgroup-rule`` in the runtime's words. The rules have been checked."""
    rules: list[dict[str, Any]] = []
    for text in host.device_cgroup_rules or []:
        if (match := DEVICE_RULE.fullmatch(text)) is None:
            continue
        kind, major, minor, access = match.groups()
        rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
        for name, number in (("major", major), ("minor", minor)):
            if number != "*":
                rule[name] = int(number)
        rules.append(rule)
    return rules


def resolve_devices(host: HostConfig) -> list[Device]:
    """The host's devices that the config asks for; all of them for a privileged container.

    Raises:
        EnxameError: one does not exist or is no device.
    """
    devices = []
    if host.privileged:
        for current, directories, files in os.walk("/dev"):
            directories[:] = [name for name in directories if name not in {"pts", "shm", "fd", "mqueue", ".lxc"}]
            for name in files:
                path = os.path.join(current, name)
                if path not in {"/dev/console", "/dev/ptmx", "/dev/tty"} and not os.path.islink(path):
                    device = _device(path, path, "rwm")
                    if device is not None:
                        devices.append(device)
        return devices
    for wanted in host.devices or []:
        target = wanted.path_in_container or wanted.path_on_host
        source = os.path.realpath(wanted.path_on_host)
        if os.path.isdir(source):
            for current, _, files in os.walk(source):
                for name in files:
                    path = os.path.join(current, name)
                    device = _device(path, target + path[len(source) :], wanted.cgroup_permissions or "rwm")
                    if device is not None:
                        devices.append(device)
            continue
        device = _device(source, target, wanted.cgroup_permissions or "rwm") if os.path.exists(source) else None
        if device is None:
            raise EnxameError(
                f'error gathering device information while adding custom device "{wanted.path_on_host}": '
                + ("not a device node" if os.path.exists(source) else "no such file or directory")
            )
        devices.append(device)
    return devices


def _device(source: str, target: str, access: str) -> Device | None:
    info = os.stat(source)
    kind = "c" if stat.S_ISCHR(info.st_mode) else "b" if stat.S_ISBLK(info.st_mode) else ""
    if not kind:
        return None
    number = info.st_rdev
    return Device(
        target, kind, os.major(number), os.minor(number), access, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid
    )
