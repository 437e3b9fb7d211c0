"""The sample image: a small HTTP server made from the host's static busybox, with no registry.

Every reply is the container's hostname, so that load balancing can be seen. It listens on ``$PORT`` (80), stops at
once on SIGTERM though it is PID 1; ``/cgi-bin/whoami`` also tells who asked. The same busybox, hence the same image:
building it twice gives the same id.

    python -m enxame.testing.sample_image OUT.tar [TAG]
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import stat
import subprocess
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

__all__ = ["DEFAULT_TAG", "build"]

DEFAULT_TAG: Final = "enxame/sample:latest"
BUSYBOX: Final = Path("/bin/busybox")

# The shell is PID 1, which the kernel spares from signals without a handler: it traps them and takes the server along.
# The page is written at start (a static file is served several times faster than a script runs); on a read-only root
# filesystem busybox falls back to cgi-bin/index.cgi.
_SERVE = """\
#!/bin/sh
read -r name </proc/sys/kernel/hostname
echo "$name" 2>/dev/null >/www/index.html
port="${PORT:-80}"
child=
trap 'kill "$child" 2>/dev/null; exit 0' TERM INT QUIT HUP
httpd -f -p "$port" -h /www &
child=$!
echo "$name listens on port $port"
wait "$child"
"""

_INDEX = """\
#!/bin/sh
read -r name </proc/sys/kernel/hostname
printf 'Content-Type: text/plain\\r\\n\\r\\n%s\\n' "$name"
"""

_WHOAMI = """\
#!/bin/sh
read -r name </proc/sys/kernel/hostname
printf 'Content-Type: text/plain\\r\\n\\r\\nHostname: %s\\nRemoteAddr: %s:%s\\nHost: %s\\n' \\
    "$name" "$REMOTE_ADDR" "$REMOTE_PORT" "$HTTP_HOST"
"""

_DIRECTORIES: Final = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "proc": 0o755,
    "root": 0o700,
    "run": 0o755,
    "sys": 0o755,
    "tmp": 0o1777,
    "var": 0o755,
    "www": 0o777,
    "www/cgi-bin": 0o755,
}

_FILES: Final = {
    "bin/serve": (_SERVE, 0o755),
    "www/cgi-bin/index.cgi": (_INDEX, 0o755),
    "www/cgi-bin/whoami": (_WHOAMI, 0o755),
    "etc/passwd": ("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644),
    "etc/group": ("root:x:0:\nnogroup:x:65534:\n", 0o644),
    "etc/nsswitch.conf": ("hosts: files dns\n", 0o644),
}

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def build(path: str | os.PathLike[str], *, tag: str = DEFAULT_TAG, busybox: Path = BUSYBOX) -> str:
    """Write the image to ``path`` as a docker-archive, which every ``docker load`` reads. Returns the image's id.

    Raises:
        FileNotFoundError: there is no static busybox (Debian's package ``busybox-static``).
    """
    if not busybox.is_file():
        raise FileNotFoundError(f"{busybox} is missing: install Debian's package busybox-static")
    made = int(busybox.stat().st_mtime)
    layer = _layer(busybox, made)
    diff_id = _sha256(layer)
    created = datetime.fromtimestamp(made, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": created,
            "config": {
                "Cmd": ["/bin/serve"],
                "Env": ["PATH=/bin", "PORT=80"],
                "ExposedPorts": {"80/tcp": {}},
                "Labels": {"org.opencontainers.image.title": "enxame-sample"},
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
            "history": [{"created": created, "created_by": "enxame.testing.sample_image"}],
        },
        sort_keys=True,
    ).encode()
    image_id = _sha256(config)
    manifest = [{"Config": f"{image_id}.json", "RepoTags": [tag], "Layers": [f"{diff_id}/layer.tar"]}]
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, f"{image_id}.json", config, 0o644, made)
        _add(archive, f"{diff_id}/layer.tar", layer, 0o644, made)
        _add(archive, "manifest.json", json.dumps(manifest).encode(), 0o644, made)
    return f"sha256:{image_id}"


def _layer(busybox: Path, made: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as layer:
        for name, mode in _DIRECTORIES.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, mode, made
            layer.addfile(entry)
        _add(layer, "bin/busybox", busybox.read_bytes(), 0o755, made)
        for applet in _applets(busybox):
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname, entry.mode, entry.mtime = tarfile.SYMTYPE, "busybox", 0o777, made
            layer.addfile(entry)
        for name, (text, mode) in _FILES.items():
            _add(layer, name, text.encode(), mode, made)
    return buffer.getvalue()


def _applets(busybox: Path) -> list[str]:
    listing = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True, timeout=10)
    return sorted(set(listing.stdout.split()) - {"busybox"})


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int, made: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(content), stat.S_IMODE(mode), made
    archive.addfile(entry, io.BytesIO(content))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main(arguments: list[str]) -> int:
    """The command: ``OUT.tar [TAG]``. Returns the exit code."""
    if len(arguments) not in {1, 2} or arguments[0].startswith("-"):
        print("usage: python -m enxame.testing.sample_image OUT.tar [TAG]", file=sys.stderr)
        return 2
    tag = arguments[1] if len(arguments) == 2 else DEFAULT_TAG
    try:
        print(build(arguments[0], tag=tag))
    except (OSError, subprocess.SubprocessError) as error:
        print(f"cannot build the sample image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
