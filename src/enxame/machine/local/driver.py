"""The driver ``local``: lightweight machines on this host, in namespaces of their own."""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import msgspec

from enxame.machine.driver import Context, DriverFlag, EnginePlan, State
from enxame.machine.errors import MachineError, NotSupported, PreCreateError
from enxame.machine.local import groups, process
from enxame.machine.local.boot import ENDS_FILE
from enxame.machine.local.network import LocalNetwork
from enxame.machine.store import MachineStore, write_file

_STOP_DEADLINE: Final = 30.0
_KILL_DEADLINE: Final = 10.0
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROGRAMS: Final = {"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux", "conmon": "conmon"}
#: A daemon that ended that often by itself will not come up.
_ENDS_IN_VAIN: Final = 3
_SOCKET: Final = "unix:///run/enxame/enxame.sock"


class LocalSettings(msgspec.Struct, kw_only=True):
    """What is remembered of a local machine."""

    ip_address: str = msgspec.field(default="", name="IPAddress")
    machine_name: str = msgspec.field(default="", name="MachineName")
    store_path: str = msgspec.field(default="", name="StorePath")
    engine_port: int = msgspec.field(default=2376, name="EnginePort")
    private: bool = msgspec.field(default=False, name="Private")
    #: Bytes and processors; 0: as many as the host has.
    memory: int = msgspec.field(default=0, name="Memory")
    cpus: float = msgspec.field(default=0.0, name="CPUs")
    init: process.InitProcess = msgspec.field(default=process.InitProcess(), name="Process")


class LocalDriver:
    """A machine of this host. Its files: ``data`` (the daemon's data root), ``etc``, ``machine.log``."""

    name: ClassVar[str] = "local"
    flags: ClassVar[Sequence[DriverFlag]] = (
        DriverFlag("local-engine-port", "Port of the machine's daemon", 2376, "LOCAL_ENGINE_PORT", "int"),
        DriverFlag("local-memory", "Most memory of the machine: MB, or with a unit (512m, 2g)", "", "LOCAL_MEMORY"),
        DriverFlag("local-cpus", "Most processors of the machine (2, 0.5)", "", "LOCAL_CPUS"),
        DriverFlag("local-private", "Give the machine no way out of its network", False, "LOCAL_PRIVATE", "switch"),
    )

    def __init__(self, context: Context, settings: LocalSettings) -> None:
        self._context = context
        self._settings = settings
        self._directory = context.directory
        self._log = context.directory / "machine.log"
        self._network = LocalNetwork(context.store)
        self._group = groups.group_of(self._network.bridge.removeprefix("enxame-"), context.name)

    @classmethod
    def from_flags(cls, context: Context, flags: Mapping[str, Any]) -> Self:
        """For a machine that is to be made."""
        try:
            memory, cpus = groups.parse_memory(flags["local-memory"]), groups.parse_cpus(flags["local-cpus"])
        except ValueError as problem:
            raise MachineError(str(problem)) from None
        return cls(
            context,
            LocalSettings(
                machine_name=context.name,
                store_path=str(context.store),
                engine_port=flags["local-engine-port"],
                private=flags["local-private"],
                memory=memory,
                cpus=cpus,
            ),
        )

    @classmethod
    def from_record(cls, context: Context, settings: Mapping[str, Any]) -> Self:
        """For a machine that was made."""
        return cls(context, msgspec.convert(settings, LocalSettings))

    def settings(self) -> dict[str, Any]:
        """As JSON."""
        return dict(msgspec.to_builtins(self._settings))

    def pre_create_check(self) -> None:
        """Root, and the programs that are needed."""
        if os.geteuid():
            raise PreCreateError("local machines are made of namespaces: this needs root")
        path = f"{os.environ.get('PATH', '')}:{_PATH}"
        for program, package in _PROGRAMS.items():
            if shutil.which(program, path=path) is None:
                raise PreCreateError(f"the program {program} is missing: install the package {package}")

    def create(self) -> None:
        """Gives it an address and its files; it starts when it is provisioned."""
        with self._locked_network():
            address = self._network.free_address(_addresses(self._context.store))
            write_file(self._directory / "address", address.encode())
        self._settings.ip_address = address
        (self._directory / "data").mkdir(exist_ok=True, mode=0o711)
        self._write_etc()

    def _write_etc(self) -> None:
        name, address = self._context.name, self._settings.ip_address
        files = {
            "hostname": f"{name}\n",
            "hosts": f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{address}\t{name}\n",
            "resolv.conf": _resolv_conf(),
        }
        for file, text in files.items():
            write_file(self._directory / "etc" / file, text.encode(), 0o644)

    def provision(self, plan: EnginePlan) -> None:
        """Writes the daemon's options; starts the machine, or its daemon anew when the machine runs."""
        options: dict[str, Any] = {
            "hosts": [_SOCKET, f"tcp://0.0.0.0:{self._settings.engine_port}"],
            "tlsverify": True,
            "tlscacert": str(plan.ca),
            "tlscert": str(plan.certificate),
            "tlskey": str(plan.key),
            **plan.daemon_options(),
        }
        write_file(self._directory / "daemon.json", json.dumps(options, indent=4).encode())
        environment = dict(item.partition("=")[::2] for item in plan.options.env)
        write_file(self._directory / "environment.json", json.dumps(environment).encode())
        if self._settings.init.alive():
            self._restart_daemon()
        else:
            self.start()

    def upgrade(self, plan: EnginePlan) -> None:
        """It runs this installation's daemon: a new start of it is all."""
        self.provision(plan)

    def _restart_daemon(self) -> None:
        """Returns when the old daemon is gone and the new one has begun."""
        before = self._daemon_pid()
        self._settings.init.send(signal.SIGUSR1)
        deadline = time.monotonic() + _STOP_DEADLINE
        while self._daemon_pid() in {before, ""}:
            if time.monotonic() > deadline:
                raise MachineError(f'the daemon of machine "{self._context.name}" does not restart: see {self._log}')
            time.sleep(0.02)  # a file in another mount namespace: nothing tells of its change

    def _daemon_pid(self) -> str:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self._settings.init.pid}/root/run/enxame/enxame.pid").read_text()
        return ""

    def start(self) -> None:
        """Makes the namespaces, and starts the daemon in them."""
        if self._settings.init.alive():
            raise MachineError(f'Machine "{self._context.name}" is already running.')
        groups.remove(self._group)
        try:
            groups.limit(self._group, self._settings.memory, self._settings.cpus)
        except OSError as problem:
            raise MachineError(f"this host cannot limit the machine: {problem.strerror}: {problem.filename}") from None
        with self._locked_network():
            network = self._network.inside(self._settings.ip_address, outside=not self._settings.private)
            self._network.set_rules()
        self._write_etc()
        environment = json.loads((self._directory / "environment.json").read_text())
        here = Path(sys.executable).parent
        boot = {
            "name": self._context.name,
            "group": self._group,
            "directory": str(self._directory),
            "data": str(self._directory / "data"),
            "command": str(here / "enxame"),
            "daemon": [sys.executable, "-m", "enxame.daemon", "--config-file", str(self._directory / "daemon.json")],
            "environment": {"PATH": f"{here}:{_PATH}", "HOME": os.environ.get("HOME", "/root"), **environment},
            "network": network,
        }
        boot_file = self._directory / "boot.json"
        write_file(boot_file, json.dumps(boot, indent=4).encode())
        self._log.write_bytes(b"")
        self._settings.init = process.start(
            boot_file, self._log, lambda pid: self._network.plug_in(self._context.name, pid)
        )

    def stop(self) -> None:
        """The daemon ends in order, then everything else."""
        if not self._settings.init.end(signal.SIGTERM, _STOP_DEADLINE):
            self._settings.init.end(signal.SIGKILL, _KILL_DEADLINE)
        self._clear()

    def restart(self) -> None:
        """``stop`` and ``start``."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """As a power cut."""
        if not self._settings.init.end(signal.SIGKILL, _KILL_DEADLINE):
            raise MachineError(f'machine "{self._context.name}" does not end: process {self._settings.init.pid}')
        self._clear()

    def _clear(self) -> None:
        self._network.unplug(self._context.name)
        groups.remove(self._group)

    def remove(self) -> None:
        """Everything; the network too when this was the last machine."""
        self.kill()
        with self._locked_network():
            (self._directory / "address").unlink(missing_ok=True)
            if not list(_addresses(self._context.store)):
                self._network.remove()

    def state(self) -> State:
        """Whether its first process runs."""
        return State.RUNNING if self._settings.init.alive() else State.STOPPED

    def ip(self) -> str:
        """Its address on the private network."""
        if not self._settings.ip_address:
            raise MachineError("Host is not running")
        return self._settings.ip_address

    def url(self) -> str:
        """Empty while it does not run."""
        if self.state() is not State.RUNNING:
            return ""
        return f"tcp://{self._settings.ip_address}:{self._settings.engine_port}"

    def names(self) -> list[str]:
        """Nothing but its name and address."""
        return []

    def shell(self, words: Sequence[str], *, terminal: bool) -> list[str]:  # noqa: ARG002
        """Enters the namespaces; ``docker`` and ``enxame`` there mean the machine's own daemon."""
        if not self._settings.init.alive():
            raise MachineError(f'Error: Cannot run SSH command: Host "{self._context.name}" is not running')
        pid = str(self._settings.init.pid)
        unset = [
            f"--unset={name}"
            for name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_MACHINE_NAME", "DOCKER_CONTEXT")
        ]
        here = Path(sys.executable).parent
        path = f"PATH={here}:{_PATH}:/run/machine"
        environment = ["env", *unset, path, f"DOCKER_HOST={_SOCKET}", f"ENXAME_HOST={_SOCKET}"]
        command = ["sh", "-c", " ".join(words)] if words else [os.environ.get("SHELL") or "/bin/sh", "-i"]
        enter = ["nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        return [*enter, "--", *environment, "sh", "-c", 'cd; exec "$@"', "sh", *command]

    def daemon_log(self) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])
        return ""

    def daemon_failed(self) -> bool:
        """When it ended by itself again and again."""
        with contextlib.suppress(OSError, ValueError):
            return int(Path(f"/proc/{self._settings.init.pid}/root{ENDS_FILE}").read_text()) >= _ENDS_IN_VAIN
        return not self._settings.init.alive()

    def copy_command(self, words: Sequence[str]) -> list[str]:
        """``cp``: the machine shares this host's files, but for its own directories."""
        root = f"/proc/{self._settings.init.pid}/root"
        there = [f"{root}/{word[1:].lstrip('/')}" if word.startswith(":") else word for word in words if word != "-q"]
        # What both share is there already.
        return ["sh", "-c", 'for last; do :; done; [ "$1" -ef "$last" ] || exec cp "$@"', "sh", *there]

    def mount_command(self, path: str, mountpoint: str) -> list[str]:
        """Refused: most of its files are this host's."""
        root = f"/proc/{self._settings.init.pid}/root"
        raise NotSupported(
            f"local driver does not support mount: {path} of the machine is {root}{path} on this host, not {mountpoint}"
        )

    @contextlib.contextmanager
    def _locked_network(self) -> Iterator[None]:
        with MachineStore(self._context.store).lock("network"):
            yield


def _addresses(store: Path) -> Iterator[str]:
    """Of all local machines, also of those that are just being made."""
    for file in (store / "machines").glob("*/address"):
        with contextlib.suppress(FileNotFoundError):
            yield file.read_text()


def _resolv_conf() -> str:
    """The host's name servers; not its own stub, which nobody reaches from the machine."""
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        with contextlib.suppress(OSError):
            text = path.read_text()
            servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver ")]
            if servers and not all(server.startswith("127.") for server in servers):
                return text
    return ""
