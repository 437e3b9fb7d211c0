"""Brings the daemon to a host over SSH: sources and packages when it is not there, options, certificates, a start.

All of it goes through one session: a tar archive on standard input, with the script that puts it in place.
"""

import io
import json
import os
import tarfile
import time
from pathlib import Path
from typing import Any, Final

import enxame
from enxame.machine.driver import EnginePlan
from enxame.machine.errors import MachineError
from enxame.machine.ssh import NoConnection, SshHost

#: Seconds for packages and sources on a slow host.
_INSTALL_DEADLINE: Final = 900.0
#: What of a clone is needed to install it.
_SOURCES: Final = (
    "src",
    "scripts",
    "pyproject.toml",
    "requirements.lock",
    "debian-packages.txt",
    "README.md",
    "LICENSE",
)
_ETC: Final = "/etc/enxame"

_LOOK: Final = r"""
. /etc/os-release 2>/dev/null; PATH="$PATH:/usr/local/bin:/usr/sbin:/sbin"
echo "id=$(id -u)"; echo "os=${ID:-unknown} ${ID_LIKE:-}"; echo "name=$(hostname)"
echo "version=$(enxamed --version 2>/dev/null)"
[ "$(id -u)" = 0 ] || { sudo -n true 2>/dev/null && echo sudo=yes; } || true
"""

_UNPACK: Final = (
    'd=$(mktemp -d) && trap "rm -rf $d" EXIT && tar -xf - -C "$d" && cd "$d" && {sudo}sh ./provision.sh {arguments}'
)

_SCRIPT: Final = r"""
set -eu
name=$1 install=$2
PATH="$PATH:/usr/local/bin:/usr/local/sbin:/usr/sbin:/sbin"; export PATH
if [ "$name" != "$(hostname)" ] && [ "$name" != - ]; then
    hostname "$name"
    echo "$name" > /etc/hostname
    grep -q "[[:space:]]$name\$" /etc/hosts || echo "127.0.1.1 $name" >> /etc/hosts
fi
if [ "$install" = yes ]; then
    python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
        apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv
    }
    sh ./sources/scripts/install-debian-packages runtime
    sh ./sources/scripts/install
fi
umask 077
mkdir -p /etc/enxame
if [ -f /etc/enxame/daemon.json ] && [ ! -f /etc/enxame/made-by-machine ]; then
    cp /etc/enxame/daemon.json /etc/enxame/daemon.json.before-machine
fi
for file in ca.pem server.pem server-key.pem daemon.json environment; do
    cp "etc/$file" "/etc/enxame/.$file.new" && mv "/etc/enxame/.$file.new" "/etc/enxame/$file"
done
: > /etc/enxame/made-by-machine
if [ -d /run/systemd/system ]; then
    mkdir -p /etc/systemd/system/enxame.service.d
    printf '[Service]\nEnvironmentFile=/etc/enxame/environment\n' > /etc/systemd/system/enxame.service.d/machine.conf
    systemctl daemon-reload
    systemctl enable -q enxame
    systemctl restart enxame
    exit 0
fi
pidfile=/run/enxame/enxame.pid
if [ -f "$pidfile" ] && kill -TERM "$(cat "$pidfile")" 2>/dev/null; then
    tries=0
    while [ -f "$pidfile" ] && [ "$tries" -lt 200 ]; do sleep 0.1; tries=$((tries + 1)); done
fi
mkdir -p /var/log
umask 022
set -a; . /etc/enxame/environment; set +a
setsid enxamed >> /var/log/enxamed.log 2>&1 < /dev/null &
"""


def wait_for_ssh(host: SshHost, deadline: float) -> None:
    """Returns when a command can be run there. Raises MachineError with ssh's own words after ``deadline`` seconds."""
    end = time.monotonic() + deadline
    while True:
        try:
            host.run("exit 0", timeout=30.0)
        except NoConnection as problem:
            # Only what may pass by itself is waited for: a refused key stays refused.
            if time.monotonic() > end or ("refused" not in problem.message and "timed out" not in problem.message):
                raise
            time.sleep(0.5)
        else:
            return


def look(host: SshHost) -> dict[str, str]:
    """Facts of the host: id, os, name, version (of its daemon), sudo."""
    lines = host.run(f"sh -c {_quoted(_LOOK)}").splitlines()
    return {key: value for key, separator, value in (line.partition("=") for line in lines) if separator}


def provision(host: SshHost, plan: EnginePlan, port: int, name: str, *, reinstall: bool = False) -> None:
    """Puts the host's daemon into the planned state, started anew. ``name``: the host's to be; ``-`` keeps it."""
    facts = look(host)
    root = facts.get("id") == "0"
    if not root and facts.get("sudo") != "yes":
        raise MachineError(f"{host.user}@{host.address} is neither root nor may it use sudo without a password")
    install = reinstall or enxame.__version__ not in facts.get("version", "").split()
    system = facts.get("os", "unknown").strip()
    if install and not {"debian", "ubuntu"} & set(system.split()):
        raise MachineError(f"{host.address} runs {system}: the daemon is installed on Debian and its kin only")
    options: dict[str, Any] = {
        "hosts": ["unix:///run/enxame/enxame.sock", f"tcp://0.0.0.0:{port}"],
        "tlsverify": True,
        "tlscacert": f"{_ETC}/ca.pem",
        "tlscert": f"{_ETC}/server.pem",
        "tlskey": f"{_ETC}/server-key.pem",
        **plan.daemon_options(),
    }
    files = {
        "etc/ca.pem": plan.ca.read_bytes(),
        "etc/server.pem": plan.certificate.read_bytes(),
        "etc/server-key.pem": plan.key.read_bytes(),
        "etc/daemon.json": json.dumps(options, indent=4).encode(),
        "etc/environment": "".join(f"{line}\n" for line in plan.options.env).encode(),
        "provision.sh": _SCRIPT.encode(),
    }
    archive = _archive(files, source_tree() if install else None)
    command = _UNPACK.format(sudo="" if root else "sudo -n ", arguments=f"{name} {'yes' if install else 'no'}")
    host.run(f"sh -c {_quoted(command)}", stdin=archive, timeout=_INSTALL_DEADLINE)


def source_tree() -> Path:
    """The clone that this command runs from, or that ENXAME_SOURCE names. Raises MachineError when there is none."""
    named = os.environ.get("ENXAME_SOURCE")
    tree = Path(named) if named else Path(enxame.__file__).parents[2]
    if not (tree / "scripts" / "install").exists():
        raise MachineError(
            "the host has no daemon of this version, and there are no sources to install it from: "
            "set ENXAME_SOURCE to a clone of the project"
        )
    return tree


def _archive(files: dict[str, bytes], tree: Path | None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))
        if tree is not None:
            for name in _SOURCES:
                archive.add(tree / name, f"sources/{name}", filter=_wanted)
    return buffer.getvalue()


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = Path(member.name).parts
    if "__pycache__" in parts or any(part.endswith(".egg-info") for part in parts):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
