"""What a container asks to be mounted: ``Binds``, ``Mounts``, ``Tmpfs`` and image volumes, read and checked. Pure
but for one question to the disk: whether the source of a bind exists.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from posixpath import normpath

from msgspec import field

from enxame.errors import InvalidArgument
from enxame.model.base import Model
from enxame.model.container import ContainerConfig, HostConfig, Mount
from enxame.model.container_view import MountPoint

_MODES = {"ro", "rw", "z", "Z", "nocopy", "cached", "consistent", "delegated"}
_PROPAGATIONS = {"private", "rprivate", "shared", "rshared", "slave", "rslave"}
_TMPFS_VALUES = {"gid", "mode", "mpol", "nr_blocks", "nr_inodes", "size", "uid"}
_TMPFS_FLAGS = (
    {"async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "mand", "noatime", "nodev"}
    | {"nodiratime", "noexec", "nomand", "norelatime", "nostrictatime", "nosuid", "rbind", "relatime", "remount"}
    | {"ro", "rw", "strictatime", "suid", "sync"}
    | _PROPAGATIONS
)
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


class MountRequest(Model):
    """One mount. ``type``: bind|volume|tmpfs. ``source``: host path of a bind; ``name``: of a volume.

    ``create_source``: make a missing host directory. ``copy``: fill an empty volume from the image.
    ``anonymous``: made for this container alone.
    ``options``: further options of a tmpfs. ``mode`` is what the client wrote after the second colon. ``shown``: among
    the container's mounts.
    """

    type: str
    destination: str
    source: str = ""
    name: str = ""
    read_only: bool = False
    propagation: str = ""
    recursive: bool = True
    create_source: bool = False
    copy: bool = True
    mode: str = ""
    options: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    driver: str = ""
    driver_options: dict[str, str] = field(default_factory=dict)
    subpath: str = ""
    anonymous: bool = False
    shown: bool = True


def mount_point(mount: MountRequest, source: str) -> MountPoint | None:
    """How the mount is shown; ``source``: its place on this machine. None: Docker shows it among the wishes alone."""
    if not mount.shown:
        return None
    return MountPoint(
        type=mount.type,
        name=mount.name,
        source=source,
        destination=mount.destination,
        driver="local" if mount.type == "volume" else "",
        mode=mount.mode,
        rw=not mount.read_only,
        propagation=mount.propagation if mount.type == "bind" else "",
    )


def mount_attributes(container_id: str, mount: MountRequest) -> dict[str, str]:
    """What the event of a mounted volume tells."""
    return {
        "container": container_id,
        "destination": mount.destination,
        "driver": mount.driver or "local",
        "propagation": mount.propagation,
        "read/write": "false" if mount.read_only else "true",
    }


def parse_mounts(
    config: ContainerConfig,
    host: HostConfig,
    *,
    new_volume_name: Callable[[], str],
    inherited: list[MountRequest] | None = None,
) -> list[MountRequest]:
    """All mounts of a container, parents before children; later kinds replace ``inherited`` ones.

    Raises:
        InvalidArgument: a malformed or contradictory wish, in Docker's words.
    """
    found: dict[str, MountRequest] = {mount.destination: mount for mount in inherited or []}
    explicit: set[str] = set()

    def add(mount: MountRequest) -> None:
        if mount.destination in explicit:
            raise InvalidArgument(f"Duplicate mount point: {mount.destination}")
        explicit.add(mount.destination)
        found[mount.destination] = mount

    for text in host.binds or []:
        add(_parse_bind(text, new_volume_name))
    for wanted in host.mounts:
        add(_parse_mount(wanted, new_volume_name))
    for destination, options in host.tmpfs.items():
        add(_parse_tmpfs(destination, options))
    for destination in config.volumes or {}:
        clean = _destination(destination, destination)
        if clean not in found:
            found[clean] = MountRequest(type="volume", destination=clean, name=new_volume_name(), anonymous=True)
    return sorted(found.values(), key=lambda mount: (mount.destination.count("/"), mount.destination))


def _parse_bind(text: str, new_volume_name: Callable[[], str]) -> MountRequest:
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise InvalidArgument(f"invalid volume specification: '{text}'")
    if len(parts) == 1:
        destination = _destination(parts[0], text)
        return MountRequest(type="volume", destination=destination, name=new_volume_name(), anonymous=True)
    modes = parts[2].split(",") if len(parts) == 3 else []
    propagation = ""
    for mode in modes:
        if mode in _PROPAGATIONS and not propagation:
            propagation = mode
        elif mode not in _MODES:
            raise InvalidArgument(f"invalid mode: {parts[2]}")
    if {"ro", "rw"} <= set(modes):
        raise InvalidArgument(f"invalid mode: {parts[2]}")
    destination = _destination(parts[1], text, "bind" if parts[0].startswith("/") else "volume")
    read_only, mode_text = "ro" in modes, ",".join(modes)
    if parts[0].startswith("/"):
        return MountRequest(
            type="bind",
            destination=destination,
            source=normpath(parts[0]),
            read_only=read_only,
            propagation=propagation or "rprivate",
            create_source=True,
            mode=mode_text,
        )
    _check_volume_name(parts[0])
    return MountRequest(
        type="volume",
        destination=destination,
        name=parts[0],
        read_only=read_only,
        copy="nocopy" not in modes,
        mode=mode_text or "z",
    )


def _check_volume_name(name: str) -> None:
    if not _VOLUME_NAME.fullmatch(name):
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def _destination(path: str, text: str, kind: str = "volume") -> str:
    prefix = f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\""
    if not path.startswith("/"):
        raise InvalidArgument(f"{prefix}: invalid mount path: '{path}' mount path must be absolute")
    clean = normpath(path).replace("//", "/")
    if clean == "/":
        raise InvalidArgument(f"{prefix}: invalid specification: destination can't be '/'")
    return clean


def _parse_mount(wanted: Mount, new_volume_name: Callable[[], str]) -> MountRequest:
    def refuse(why: str) -> InvalidArgument:
        return InvalidArgument(f'invalid mount config for type "{wanted.type}": {why}')

    if not wanted.target:
        raise refuse("field Target must not be empty")
    if not wanted.target.startswith("/"):
        raise refuse(f"invalid mount path: '{wanted.target}' mount path must be absolute")
    destination = normpath(wanted.target).replace("//", "/")
    if destination == "/":
        raise refuse("invalid specification: destination can't be '/'")
    match wanted.type:
        case "bind":
            return _parse_bind_mount(wanted, destination, refuse)
        case "volume":
            if wanted.bind_options is not None:
                raise refuse("field BindOptions must not be specified")
            volume = wanted.volume_options
            _check_volume_mount(wanted, refuse)
            driver = volume.driver_config if volume else None
            return MountRequest(
                type="volume",
                destination=destination,
                name=wanted.source or new_volume_name(),
                read_only=wanted.read_only,
                copy=not (volume and volume.no_copy),
                mode="z",
                labels=volume.labels if volume else {},
                driver=driver.name if driver else "",
                driver_options=driver.options if driver else {},
                subpath=volume.subpath if volume else "",
                anonymous=not wanted.source,
            )
        case "tmpfs":
            if wanted.source:
                raise refuse("field Source must not be specified")
            tmpfs = wanted.tmpfs_options
            extra = [f"size={tmpfs.size_bytes}"] if tmpfs and tmpfs.size_bytes else []
            if tmpfs and tmpfs.mode:
                extra.append(f"mode={tmpfs.mode:o}")
            return MountRequest(type="tmpfs", destination=destination, read_only=wanted.read_only, options=extra)
        case _:
            raise InvalidArgument(f'invalid mount config for type "{wanted.type}": mount type unknown')


def _check_volume_mount(wanted: Mount, refuse: Callable[[str], InvalidArgument]) -> None:
    subpath = wanted.volume_options.subpath if wanted.volume_options else ""
    if subpath:
        if not wanted.source:
            raise refuse("must not set Subpath when using anonymous volumes")
        if subpath.startswith("/") or normpath(subpath).split("/")[0] == "..":
            raise refuse("subpath must be a relative path within the volume")
    if wanted.source:
        _check_volume_name(wanted.source)
    elif wanted.read_only:
        raise refuse("must not set ReadOnly mode when using anonymous volumes")


def _parse_bind_mount(wanted: Mount, destination: str, refuse: Callable[[str], InvalidArgument]) -> MountRequest:
    if not wanted.source:
        raise refuse("field Source must not be empty")
    if not wanted.source.startswith("/"):
        raise refuse(f"invalid mount path: '{wanted.source}' mount path must be absolute")
    if wanted.volume_options is not None:
        raise refuse("field VolumeOptions must not be specified")
    options = wanted.bind_options
    propagation = options.propagation if options else ""
    if propagation and propagation not in _PROPAGATIONS:
        raise refuse(f"invalid propagation mode: {propagation}")
    create = options is not None and options.create_mountpoint
    if not create and not os.path.lexists(wanted.source):
        raise refuse(f"bind source path does not exist: {wanted.source}")
    return MountRequest(
        type="bind",
        destination=destination,
        source=normpath(wanted.source),
        read_only=wanted.read_only,
        propagation=propagation or "rprivate",
        recursive=not (options and options.non_recursive),
        create_source=create,
    )


def _parse_tmpfs(destination: str, options: str) -> MountRequest:
    if not destination.startswith("/"):
        raise InvalidArgument(f"invalid mount path: '{destination}' mount path must be absolute")
    words = [word for word in options.split(",") if word]
    for word in words:
        name, equals, value = word.partition("=")
        if name not in (_TMPFS_VALUES if equals else _TMPFS_FLAGS) or not re.fullmatch(r"[A-Za-z0-9%:_-]*", value):
            raise InvalidArgument("invalid tmpfs option [" + " ".join(f'"{part}"' for part in word.split("=", 1)) + "]")
    read_only = "ro" in words
    return MountRequest(
        type="tmpfs",
        destination=normpath(destination),
        read_only=read_only,
        options=[word for word in words if word not in {"ro", "rw"}],
        mode=options,
        shown=False,
    )
