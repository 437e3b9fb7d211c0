"""A host that is reached over SSH: a real sshd in a network namespace, with directories of its own."""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from enxame.testing.daemons import wait_until
from enxame.testing.namespace import NetworkNamespace, run

_SETUP = """
set -e
cd {work}
hostname remote
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd /run/netns
for dir in etc opt usr/local; do
    mkdir -p over/$dir/upper over/$dir/work
    mount -t overlay overlay -o lowerdir=/$dir,upperdir=over/$dir/upper,workdir=over/$dir/work /$dir
done
mkdir -p var-log var-lib-enxame /var/lib/enxame
mount --bind var-log /var/log
mount --bind var-lib-enxame /var/lib/enxame
rm -rf /opt/enxame /etc/enxame /usr/local/bin/enxame /usr/local/bin/enxamed
{installed}
exec /usr/sbin/sshd -D -e -f {work}/sshd_config
"""

_CONFIG = """
Port 22
HostKey {work}/host_key
AuthorizedKeysFile {work}/authorized_keys
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
{environment}
"""


class SshHost:
    """Its files are below ``directory``; ``installed``: the daemon of the tests' environment is there already."""

    user = "root"

    def __init__(
        self, directory: Path, network: NetworkNamespace, *, installed: bool, wheels: Path | None = None
    ) -> None:
        self.directory = directory
        self.network = network
        directory.mkdir()
        self.key = directory / "client_key"
        for name in ("client_key", "host_key"):
            self.new_key(directory / name)
        (directory / "authorized_keys").write_text((directory / "client_key.pub").read_text())
        offline = f"SetEnv PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels}" if wheels else ""
        (directory / "sshd_config").write_text(_CONFIG.format(work=directory, environment=offline))
        bin_directory = Path(sys.executable).parent
        links = f"ln -s {bin_directory}/enxame {bin_directory}/enxamed /usr/local/bin/" if installed else ""
        self._script = _SETUP.format(work=shlex.quote(str(directory)), installed=links)
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def new_key(path: Path) -> None:
        path.unlink(missing_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))

    def start(self) -> None:
        with (self.directory / "sshd.log").open("ab") as log:
            unshare = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
            self._process = subprocess.Popen(
                self.network.argv(*unshare, "sh", "-c", self._script),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._listens, "sshd listens")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "sshd.log").read_text()
        with contextlib.suppress(OSError), self.network.connect("127.0.0.1", 22, timeout=1) as made:
            made.settimeout(1)
            return made.recv(4, socket.MSG_PEEK) == b"SSH-"
        return False

    def stop(self) -> None:
        """The host and all that runs on it."""
        if self._process is not None:
            # unshare's child is process 1 of the host: all end with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
