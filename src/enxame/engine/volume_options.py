"""The driver options of a local volume: ``type``, ``o`` and ``device``, as mount(2) takes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from enxame.engine.mount_syscalls import MS_FLAGS
from enxame.errors import InvalidArgument

__all__ = ["MountOptions", "mount_options"]

_KNOWN: Final = frozenset({"type", "o", "device", "size"})
_PROPAGATION: Final = 0xF << 17


@dataclass(frozen=True)
class MountOptions:
    """A mount, as mount(2) takes it."""

    type: str
    device: str
    flags: int
    data: str


def mount_options(options: Mapping[str, str]) -> MountOptions | None:
    """The mount that the options describe; None for a plain directory.

    Raises:
        InvalidArgument: unknown options, or some without the others that they need.
    """
    for name in options:
        if name not in _KNOWN:
            raise InvalidArgument(f'invalid option: "{name}"')
    if "size" in options:
        raise InvalidArgument("quota size requested but no quota support")
    given = {name for name, value in options.items() if value}
    if not given:
        return None
    for name in ("device", "type"):
        if name not in given:
            raise InvalidArgument(f'missing required option: "{name}"')
    flags, data = 0, []
    for option in options.get("o", "").split(","):
        if option in MS_FLAGS:
            bits, sets = MS_FLAGS[option]
            flags = flags | bits if sets else flags & ~bits
        elif option:
            data.append(option)
    if flags & _PROPAGATION:
        raise InvalidArgument("mount propagation cannot be an option of a volume")
    return MountOptions(options["type"], options["device"], flags, ",".join(data))
