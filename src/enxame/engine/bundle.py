"""Makes the bundle of a container: its files, its mounts on this machine, the runtime's ``config.json``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from enxame.engine import capabilities, security_options
from enxame.engine.block_io import block_io
from enxame.engine.cgroups import CgroupLayout
from enxame.engine.container_record import Definition
from enxame.engine.devices import cgroup_rules, resolve_devices
from enxame.engine.files.placeholders import MOUNT_TABLE
from enxame.engine.init_program import find_init_program
from enxame.engine.kernel_limits import KernelLimits
from enxame.engine.mount_requests import MountRequest, mount_point
from enxame.engine.namespaces import FindOther, choose_namespaces
from enxame.engine.oci_spec import DEFAULT_SHM_SIZE, INIT_PATH, BoundMount, SpecInput, build_spec
from enxame.engine.sandbox import SandboxInfo
from enxame.engine.seccomp_cache import ANNOTATION, SeccompCache
from enxame.engine.shared_memory import mount_shm, shm_directory
from enxame.engine.subpaths import bind_subpath
from enxame.engine.users import inside, resolve_user
from enxame.errors import EnxameError, InvalidArgument
from enxame.model.container import HostConfig
from enxame.model.container_view import MountPoint

_KEPT_FLAGS = {"nosuid": os.ST_NOSUID, "nodev": os.ST_NODEV, "noexec": os.ST_NOEXEC, "noatime": os.ST_NOATIME}
#: The control group that those of containers lie in, unless told otherwise.
CGROUP_PARENT = "/enxame"
#: Below the exec root: where parts of volumes are held.
SUBPATHS = "subpaths"
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Machine:
    """What is the same for all containers of this machine."""

    layout: CgroupLayout
    capabilities: frozenset[str]
    kernel: KernelLimits


@dataclass(frozen=True, slots=True)
class Written:
    """``mounts`` as they became; ``filter_key`` of the seccomp profile, ``given``: with a filter that is compiled."""

    mounts: list[MountPoint]
    filter_key: str
    given: bool


def hostname_of(definition: Definition) -> str:
    """The container's host name."""
    if definition.config.hostname:
        return definition.config.hostname
    if definition.host.network_mode == "host" or definition.host.uts_mode == "host":
        return os.uname().nodename
    return definition.id[:12]


def cgroup_path(definition: Definition) -> str:
    """The container's control group."""
    parent = definition.host.cgroup_parent.strip("/")
    return f"/{parent}/{definition.id}" if parent else f"{CGROUP_PARENT}/{definition.id}"


def write_bundle(
    definition: Definition,
    *,
    directory: Path,
    bundle: Path,
    rootfs: str,
    sandbox: SandboxInfo,
    volumes: dict[str, str],
    machine: Machine,
    find: FindOther,
    filters: SeccompCache | None,
    further_env: Sequence[str] = (),
) -> Written:
    """Write everything the runtime needs into ``bundle``. Blocking: call it in a thread.

    ``directory`` keeps the container's own files, ``volumes`` are the directories of its volumes by name,
    ``find`` looks up another container whose namespaces are shared, ``filters`` are the seccomp filters
    that the runtime need not compile. ``further_env``: variables that the config's own override.

    Raises EnxameError for what cannot be done.
    """
    host = definition.host
    hostname = hostname_of(definition)
    own = _own_files(definition, directory, hostname, sandbox)
    bound, points = _mounts(definition, own, volumes, bundle.parent.parent / SUBPATHS)
    _make_workdir(rootfs, definition.config.working_dir)
    _mark(rootfs)
    granted = capabilities.effective(
        host.cap_add or [], host.cap_drop or [], privileged=host.privileged, available=machine.capabilities
    )
    namespaces = choose_namespaces(host, sandbox.netns_path, machine.layout.version, find)
    bundle.mkdir(parents=True, exist_ok=True, mode=0o700)
    profile, key, annotations = _seccomp(host, granted, filters)
    spec = build_spec(
        SpecInput(
            hostname=hostname,
            rootfs=rootfs,
            config=replace(definition.config, env=[*further_env, *(definition.config.env or [])]),
            host=host,
            user=resolve_user(definition.config.user, host.group_add or [], rootfs),
            cgroups_path=cgroup_path(definition),
            cgroup_version=machine.layout.version,
            namespaces=namespaces,
            mounts=bound,
            capabilities=granted,
            seccomp=profile,
            annotations={**host.annotations, **annotations},
            block_io=block_io(host),
            host_mqueue=os.path.ismount("/dev/mqueue"),
            devices=resolve_devices(host),
            device_rules=cgroup_rules(host),
            shm_source=_shm_source(host, bundle, find),
            swap_limit=machine.kernel.swap,
        )
    )
    (bundle / "config.json").write_bytes(_encode(spec))
    return Written(points, key, given=bool(annotations))


def _mounts(
    definition: Definition, own: list[BoundMount], volumes: dict[str, str], subpaths: Path
) -> tuple[list[BoundMount], list[MountPoint]]:
    """What is mounted, and how the API shows it. Where a user mounts something, the container's own file is not."""
    points: list[MountPoint] = []
    bound = own
    for request in definition.mounts:
        mount, point = _bind(request, definition.id, volumes, subpaths)
        bound = [other for other in bound if other.destination != mount.destination]
        bound.append(mount)
        if point is not None:
            points.append(point)
    if definition.host.init:
        bound.append(BoundMount(INIT_PATH, _init_program(), options=("bind", "ro")))
    return bound, points


def _seccomp(
    host: HostConfig, granted: list[str], filters: SeccompCache | None
) -> tuple[msgspec.Raw | dict[str, Any] | None, str, dict[str, str]]:
    """The profile for the runtime, its key among the filters, and annotations: a filter that is compiled goes there, in
    the profile's stead.
    """
    profile = security_options.seccomp_profile(host, granted)
    if profile is None or filters is None:
        return profile, "", {}
    key = filters.key(bytes(profile) if isinstance(profile, msgspec.Raw) else _encode(profile))
    known = filters.annotation(key)
    return (profile, key, {}) if known is None else (None, key, {ANNOTATION: known})


def _shm_source(host: HostConfig, bundle: Path, find: FindOther) -> str:
    """What is bound to /dev/shm; empty for a new tmpfs that nobody else can have."""
    kind, _, ref = host.ipc_mode.partition(":")
    if kind == "host":
        return "/dev/shm"
    if kind == "shareable":
        return mount_shm(bundle, host.shm_size or DEFAULT_SHM_SIZE)
    if kind == "container":
        other = find(ref)[0]
        if other.host.ipc_mode != "shareable":
            raise InvalidArgument(
                f"cannot join IPC namespace of container {other.id}: non-shareable IPC "
                "(hint: use IpcMode:shareable for the donor container)"
            )
        return str(shm_directory(bundle.parent / other.id))
    return ""


def _own_files(definition: Definition, directory: Path, hostname: str, sandbox: SandboxInfo) -> list[BoundMount]:
    files = {"hostname": f"{hostname}\n"}
    if sandbox.hosts or not definition.host.network_mode.startswith("container:"):
        files["hosts"] = sandbox.hosts or f"127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t{hostname}\n"
    if sandbox.resolv_conf:
        files["resolv.conf"] = sandbox.resolv_conf
    mode = "ro" if definition.host.readonly_rootfs else "rw"
    mounts = []
    for name, text in files.items():
        path = directory / name
        # In place: a running container holds on to the file itself.
        path.write_text(text)
        path.chmod(0o644)
        mounts.append(BoundMount(f"/etc/{name}", str(path), options=("rbind", "rprivate", mode)))
    if "resolv.conf" not in files and os.path.exists("/etc/resolv.conf"):
        source = os.path.realpath("/etc/resolv.conf")
        mounts.append(BoundMount("/etc/resolv.conf", source, options=("rbind", "rprivate", "ro")))
    return mounts


def _bind(
    request: MountRequest, container_id: str, volumes: dict[str, str], subpaths: Path
) -> tuple[BoundMount, MountPoint | None]:
    mode = "ro" if request.read_only else "rw"
    match request.type:
        case "tmpfs":
            options = ["noexec", "nosuid", "nodev", mode]
            for word in request.options:  # a client's word replaces the default it contradicts
                options = [old for old in options if old not in {f"no{word}", word.removeprefix("no")}]
                options.append(word)
            return BoundMount(request.destination, "tmpfs", "tmpfs", tuple(options)), mount_point(request, "")
        case "volume":
            shown = source = volumes[request.name]
            if request.subpath:
                source = bind_subpath(subpaths, container_id, source, request.subpath)
        case _:
            shown = source = request.source
            if not os.path.lexists(source):
                if not request.create_source:
                    raise InvalidArgument(
                        f'invalid mount config for type "bind": bind source path does not exist: {source}'
                    )
                try:
                    os.makedirs(source)
                except OSError as error:
                    raise EnxameError(
                        f"error while creating mount source path '{source}': mkdir {source}: {error.strerror}"
                    ) from error
    options = ["rbind" if request.recursive else "bind", request.propagation or "rprivate"]
    options += _inherited(source, read_only=request.read_only)
    return BoundMount(request.destination, source, options=tuple(options)), mount_point(request, shown)


def _inherited(source: str, *, read_only: bool) -> list[str]:
    """The flags of the mount that ``source`` lies on: crun would otherwise drop them."""
    flags = os.statvfs(source).f_flag
    return [
        "ro" if read_only or flags & os.ST_RDONLY else "rw",
        *(word for word, flag in _KEPT_FLAGS.items() if flags & flag),
    ]


def _make_workdir(rootfs: str, path: str) -> None:
    if path and path != "/":
        target = inside(rootfs, path)
        if target.exists() and not target.is_dir():
            raise InvalidArgument(f"Cannot mkdir: {path} is not a directory")
        target.mkdir(parents=True, exist_ok=True, mode=0o755)


def _mark(rootfs: str) -> None:
    """What programs look for: a file that tells that they run in a container, and the table of mounts."""
    with contextlib.suppress(OSError):
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(os.path.join(rootfs, ".dockerenv"), flags, 0o755))
    parent, name = MOUNT_TABLE[1:].split("/")
    with contextlib.suppress(OSError):
        directory = os.open(os.path.join(rootfs, parent), os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.symlink("/proc/mounts", name, dir_fd=directory)
        finally:
            os.close(directory)


def _init_program() -> str:
    if program := find_init_program():
        return program
    raise EnxameError("no init program found for --init: install Debian's tini or catatonit")
