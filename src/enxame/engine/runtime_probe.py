"""Finds the runtime that works on this machine, by really running a container; crun first, for it is the fastest.

The answer is kept on disk, together with what it depends on, so that a daemon starts without trying again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from pathlib import Path

import msgspec

from enxame.engine.cgroups import CgroupLayout, CgroupMode
from enxame.engine.processes import run
from enxame.engine.runtime import Runtime
from enxame.engine.runtime_namespace import RuntimeNamespace
from enxame.errors import EnxameError

_log = logging.getLogger(__name__)
_PROBE_DEADLINE = 20.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class _Answer(msgspec.Struct):
    key: str
    program: str
    in_namespace: bool


async def find_runtime(data_root: Path, exec_root: Path, layout: CgroupLayout, preferred: str = "") -> Runtime:
    """The runtime to use. ``preferred`` is a program's name or path that alone is to be tried.

    Raises:
        EnxameError: none works; says what each one answered.
    """
    conmon = shutil.which("conmon", path=_PATH)
    if conmon is None:
        raise EnxameError("conmon not found: install Debian's package conmon")
    names = [preferred] if preferred else ["crun", "runc"]
    programs = [path for name in names if (path := shutil.which(name, path=_PATH)) is not None]
    if not programs:
        raise EnxameError(f"no OCI runtime found ({', '.join(names)}): install Debian's package crun or runc")
    key = _key(programs, layout)
    cache = data_root / "runtime.json"
    cached = _cached(cache, key)
    refusals: list[str] = []
    for program in programs:
        in_namespace = layout.mode is CgroupMode.HYBRID and Path(program).name == "crun"
        if cached is not None and cached.program != program:
            continue
        namespace = None
        if in_namespace:
            try:
                namespace = await open_namespace(data_root, exec_root)
            except (OSError, TimeoutError) as error:
                refusals.append(f"{program}: {error}")
                cached = None
                continue
        runtime = Runtime(program, exec_root / "runtime", conmon, namespace)
        if cached is not None:
            return runtime
        refusal = await _try(runtime, exec_root)
        if refusal is None:
            cache.write_bytes(msgspec.json.encode(_Answer(key, program, in_namespace)))
            return runtime
        refusals.append(f"{program}: {refusal}")
        _log.info("runtime %s does not work here: %s", program, refusal)
        if namespace is not None:
            await namespace.close(unmount=True)
    if refusals or cached is None:
        raise EnxameError("no OCI runtime works on this machine: " + "; ".join(refusals))
    cache.unlink(missing_ok=True)
    return await find_runtime(data_root, exec_root, layout, preferred)


async def open_namespace(data_root: Path, exec_root: Path) -> RuntimeNamespace:
    """The mount namespace that crun needs on hybrid cgroups. Raises OSError, TimeoutError."""
    namespace = RuntimeNamespace(exec_root / "cgroup-stage", [data_root, exec_root])
    await namespace.open()
    return namespace


def _key(programs: list[str], layout: CgroupLayout) -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    versions = [f"{path}:{os.stat(path).st_size}:{os.stat(path).st_mtime_ns}" for path in programs]
    return " ".join([*versions, layout.mode.value, boot])


def _cached(path: Path, key: str) -> _Answer | None:
    try:
        answer = msgspec.json.decode(path.read_bytes(), type=_Answer)
    except (OSError, msgspec.DecodeError):
        return None
    return answer if answer.key == key else None


async def _try(runtime: Runtime, exec_root: Path) -> str | None:
    """Run ``true`` over the host's own programs. Returns what went wrong."""
    bundle = Path(tempfile.mkdtemp(prefix="probe-", dir=exec_root))
    name = bundle.name
    try:
        await asyncio.to_thread(_write_probe, bundle, name)
        code, said = await run(runtime.argv("run", f"--bundle={bundle}", name), timeout=_PROBE_DEADLINE)
        return None if code == 0 else (said.strip() or f"exit code {code}")
    except (OSError, TimeoutError) as error:
        return str(error) or "no answer"
    finally:
        await run(runtime.argv("delete", "--force", name), timeout=_PROBE_DEADLINE)
        shutil.rmtree(bundle, ignore_errors=True)


def _write_probe(bundle: Path, name: str) -> None:
    rootfs = bundle / "rootfs"
    for directory in ("usr", "proc", "dev", "sys"):
        (rootfs / directory).mkdir(parents=True)
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ]
    for directory in ("bin", "lib", "lib64"):
        if os.path.islink(f"/{directory}"):
            (rootfs / directory).symlink_to(os.readlink(f"/{directory}"))
        elif os.path.isdir(f"/{directory}"):
            (rootfs / directory).mkdir()
            mounts.append(
                {"destination": f"/{directory}", "type": "bind", "source": f"/{directory}", "options": ["rbind", "ro"]}
            )
    spec = {
        "ociVersion": "1.0.2",
        "process": {"args": ["/bin/true"], "cwd": "/", "env": [], "user": {"uid": 0, "gid": 0}},
        "root": {"path": str(rootfs)},
        "mounts": mounts,
        "linux": {
            "cgroupsPath": f"/enxame/{name}",
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
            "resources": {"memory": {"limit": 64 << 20}, "pids": {"limit": 64}},
        },
    }
    (bundle / "config.json").write_bytes(msgspec.json.encode(spec))
