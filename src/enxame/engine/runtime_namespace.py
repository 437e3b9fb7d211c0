"""A mount namespace for the runtime in which the empty unified cgroup hierarchy is not to be seen.

crun refuses hybrid cgroups. The daemon itself stays in the host's namespace; only monitors and the runtime are
started inside this one, with ``nsenter``. It is a slave of the host's: what the daemon mounts below a *shared* mount
shows there, nothing goes back. It lives as long as the daemon's descriptor and the processes in it, so nothing
is left behind; every daemon start makes a new one.
"""

from __future__ import annotations

import asyncio
import os
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
        self._bound: list[Path] = []

    async def open(self) -> None:
        """Make it. Raises OSError with the reason when the kernel or a tool refuses."""
        for directory in self._shared:
            await self._share(directory)
        await self.renew()

    async def renew(self) -> None:
        """Replace it by a fresh copy of the host's mounts; processes in the old one are not touched."""
        self._stage.mkdir(parents=True, exist_ok=True)
        stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC)
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        reader = PipeReader(out_read)
        argv = [_UNSHARE, "--mount", "--propagation", "slave", "/bin/sh", "-c", _SETUP, "sh", str(self._stage)]
        try:
            process = spawn(argv, stdin=stdin_read, stdout=out_write, stderr=out_write)
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

    async def _share(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        if is_shared(Path("/proc/self/mountinfo").read_text(), str(directory.resolve())):
            return
        for argv in ([_MOUNT, "--bind", str(directory), str(directory)], [_MOUNT, "--make-shared", str(directory)]):
            code, said = await run(argv, timeout=_DEADLINE)
            if code:
                raise OSError(f"cannot share the mounts below {directory}: {said.strip()}")
        self._bound.append(directory)

    def enter(self) -> list[str]:
        """The words before a command that shall run inside. It then starts in ``/``: give it absolute paths."""
        # By way of our own /proc entry, so that neither monitor nor runtime inherits the descriptor.
        return [_NSENTER, f"--mount=/proc/{os.getpid()}/fd/{self._descriptor}"]

    async def close(self, *, unmount: bool) -> None:
        """Give it back; with ``unmount`` also the shared mounts, when nothing lies below them any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if unmount:
            for directory in self._shared:
                if os.path.ismount(directory):
                    await run([_UMOUNT, str(directory)], timeout=_DEADLINE)


def is_shared(mountinfo: str, path: str) -> bool:
    """Whether mounts made at ``path`` propagate to other namespaces: the mount it lies on is shared."""
    best, shared = "", False
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        where = fields[4].encode().decode("unicode_escape")
        inside = path == where or path.startswith(where.rstrip("/") + "/")
        if inside and len(where) >= len(best):
            best, shared = where, any(field.startswith("shared:") for field in fields[6 : fields.index("-")])
    return shared
