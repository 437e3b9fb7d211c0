"""A mount namespace for the runtime in which the empty unified cgroup hierarchy is not to be seen.

crun refuses hybrid cgroups. The daemon itself stays in the host's namespace; only monitors and the runtime are
started inside this one, with ``nsenter``. It is a slave of the host's: what the daemon mounts below a *shared* mount
shows there, nothing goes back. It lives as long as the daemon's descriptor and the processes in it, so nothing
is left behind; every daemon start makes a new one.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from enxame.engine.processes import PipeReader, run, spawn

_NSENTER, _UNSHARE, _MOUNT, _UMOUNT = "/usr/bin/nsenter", "/usr/bin/unshare", "/usr/bin/mount", "/usr/bin/umount"
_DEADLINE = 10.0

# The runtime looks for /sys/fs/cgroup/unified by name: not even the empty directory may be there.
_SETUP = """
set -e
stage=$1
mount -t tmpfs -o mode=755,size=64k enxame-cgroup "$stage"
for controller in /sys/fs/cgroup/*; do
  name=${controller##*/}
  [ "$name" = unified ] && continue
  if [ -L "$controller" ]; then cp -P "$controller" "$stage/$name"; continue; fi
  [ -d "$controller" ] || continue
  mkdir "$stage/$name"
  mount --bind "$controller" "$stage/$name"
done
umount /sys/fs/cgroup/unified
mount --move "$stage" /sys/fs/cgroup
echo ready
read -r _ || true
"""


class RuntimeNamespace:
    """The namespace, made by :meth:`open`. ``shared`` are directories whose mounts the runtime must see."""

    def __init__(self, stage: Path, shared: list[Path]) -> None:
        self._stage = stage
        self._shared = shared
        self._descriptor = -1
        #: Ids of the host's mounts when it was made.
        self._known: set[str] = set()

    async def open(self) -> None:
        """Make it. Raises OSError with the reason when the kernel or a tool refuses."""
        for directory in self._shared:
            await self._share(directory)
        await self.renew()

    async def renew(self) -> None:
        """Replace it by a fresh copy of the host's mounts; processes in the old one are not touched."""
        await asyncio.to_thread(self._stage.mkdir, parents=True, exist_ok=True)
        known = {line.split(" ", 1)[0] for line in _mountinfo().splitlines()}
        stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC)
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        reader = PipeReader(out_read)
        argv = [_UNSHARE, "--mount", "--propagation", "slave", "/bin/sh", "-c", _SETUP, "sh", str(self._stage)]
        try:
            process = await spawn(argv, stdin=stdin_read, stdout=out_write, stderr=out_write)
        finally:
            os.close(stdin_read)
            os.close(out_write)
        try:
            async with asyncio.timeout(_DEADLINE):
                said = b""
                while b"ready\n" not in said:
                    data = await reader.read()
                    if not data:
                        raise OSError(f"cannot make the runtime's mount namespace: {said.decode(errors='replace')}")
                    said += data
            descriptor = os.open(f"/proc/{process.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(stdin_write)
            reader.close()
            async with asyncio.timeout(_DEADLINE):
                await process.wait()
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._known = known

    async def _share(self, directory: Path) -> None:
        if await asyncio.to_thread(_make_and_ask, directory):
            return
        # With all that is mounted below: the state or the volumes may be on disks of their own.
        for argv in ([_MOUNT, "--rbind", str(directory), str(directory)], [_MOUNT, "--make-rshared", str(directory)]):
            code, said = await run(argv, timeout=_DEADLINE)
            if code:
                raise OSError(f"cannot share the mounts below {directory}: {said.strip()}")

    async def make_visible(self, paths: list[str]) -> None:
        """See to it that ``paths`` are the same inside: the host may have mounted something since it was made."""
        if paths and covering_mounts(_mountinfo(), paths) - self._known:
            await self.renew()

    def enter(self) -> list[str]:
        """The words before a command that shall run inside. It then starts in ``/``: give it absolute paths."""
        # By way of our own /proc entry, so that neither monitor nor runtime inherits the descriptor.
        return [_NSENTER, f"--mount=/proc/{os.getpid()}/fd/{self._descriptor}"]

    async def close(self, *, unmount: bool) -> None:
        """Give it back; with ``unmount`` also the shared mounts below which nothing is mounted."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if unmount:
            places = mount_points(_mountinfo())
            for directory in self._shared:
                path = os.path.realpath(directory)  # noqa: ASYNC240 - our own directory, just used
                if is_own_bind(_mountinfo(), path) and not any(place.startswith(f"{path}/") for place in places):
                    # Lazily: a monitor that is just ending still has its log open there.
                    await run([_UMOUNT, "--lazy", path], timeout=_DEADLINE)


def _mountinfo() -> str:
    return Path("/proc/self/mountinfo").read_text()


def _make_and_ask(directory: Path) -> bool:
    """Make sure of the directory; whether its mounts propagate already."""
    directory.mkdir(parents=True, exist_ok=True)
    return is_shared(_mountinfo(), str(directory.resolve()))


def covering_mounts(mountinfo: str, paths: list[str]) -> set[str]:
    """Ids of the mounts that ``paths`` lie on, without those that reach other namespaces by themselves."""
    found: dict[str, tuple[str, str, bool]] = {}
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        where = _unescape(fields[4])
        shared = any(field.startswith("shared:") for field in fields[6 : fields.index("-")])
        for path in map(os.path.realpath, paths):
            inside = path == where or path.startswith(where.rstrip("/") + "/")
            # A later mount on the same place covers the earlier one.
            if inside and len(where) >= len(found.get(path, ("", "", False))[1]):
                found[path] = (fields[0], where, shared)
    return {identity for identity, _, shared in found.values() if not shared}


def mount_points(mountinfo: str) -> list[str]:
    """Where something is mounted."""
    return [_unescape(line.split(" ")[4]) for line in mountinfo.splitlines()]


def is_own_bind(mountinfo: str, path: str) -> bool:
    """Whether what is mounted at ``path`` is the directory itself, bound to its own place, and not somebody's disk."""
    mounts = [line.split(" ") for line in mountinfo.splitlines()]
    by_id = {fields[0]: fields for fields in mounts}
    # The last one of several covers the others.
    top = next((fields for fields in reversed(mounts) if _unescape(fields[4]) == path), None)
    below = by_id.get(top[1]) if top else None
    if top is None or below is None or top[2] != below[2]:
        return False
    relative = os.path.relpath(path, _unescape(below[4]))
    return os.path.normpath(os.path.join(_unescape(below[3]), relative)) == os.path.normpath(_unescape(top[3]))


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def is_shared(mountinfo: str, path: str) -> bool:
    """Whether mounts made at ``path`` propagate to other namespaces: the mount it lies on is shared."""
    best, shared = "", False
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        where = _unescape(fields[4])
        inside = path == where or path.startswith(where.rstrip("/") + "/")
        if inside and len(where) >= len(best):
            best, shared = where, any(field.startswith("shared:") for field in fields[6 : fields.index("-")])
    return shared
