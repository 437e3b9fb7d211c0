"""The driver ``generic``: a host that exists already, reached over SSH. It is provisioned, never started or stopped."""

import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import msgspec

from enxame.machine import ssh_provisioning
from enxame.machine.driver import Context, DriverFlag, EnginePlan, State
from enxame.machine.errors import MachineError, NotSupported, PreCreateError
from enxame.machine.ssh import SshHost

#: Seconds: until SSH must answer when a machine is made; what telling its state may take.
_SSH_DEADLINE: Final = 60.0
_STATE_DEADLINE: Final = 5.0


class GenericSettings(msgspec.Struct, kw_only=True):
    """What is remembered of a generic machine."""

    ip_address: str = msgspec.field(default="", name="IPAddress")
    machine_name: str = msgspec.field(default="", name="MachineName")
    ssh_user: str = msgspec.field(default="root", name="SSHUser")
    ssh_port: int = msgspec.field(default=22, name="SSHPort")
    ssh_key_path: str = msgspec.field(default="", name="SSHKeyPath")
    ssh_key: str = msgspec.field(default="", name="SSHKey")
    store_path: str = msgspec.field(default="", name="StorePath")
    engine_port: int = msgspec.field(default=2376, name="EnginePort")
    keep_hostname: bool = msgspec.field(default=False, name="KeepHostname")


class GenericDriver:
    """A host of somebody else's making."""

    name: ClassVar[str] = "generic"
    flags: ClassVar[Sequence[DriverFlag]] = (
        DriverFlag("generic-ip-address", "IP Address of machine", "", "GENERIC_IP_ADDRESS"),
        DriverFlag("generic-engine-port", "Docker engine port", 2376, "GENERIC_ENGINE_PORT", "int"),
        DriverFlag("generic-ssh-user", "SSH user", "root", "GENERIC_SSH_USER"),
        DriverFlag(
            "generic-ssh-key",
            "SSH private key path (if not provided, default SSH keys are used)",
            "",
            "GENERIC_SSH_KEY",
        ),
        DriverFlag("generic-ssh-port", "SSH port", 22, "GENERIC_SSH_PORT", "int"),
        DriverFlag("generic-keep-hostname", "Leave the host its name", False, "GENERIC_KEEP_HOSTNAME", "switch"),
    )

    def __init__(self, context: Context, settings: GenericSettings) -> None:
        self._context = context
        self._settings = settings
        key = Path(settings.ssh_key_path) if settings.ssh_key_path else None
        known_hosts = context.directory / "known_hosts"
        self._host = SshHost(settings.ip_address, settings.ssh_port, settings.ssh_user, key, known_hosts)

    @classmethod
    def from_flags(cls, context: Context, flags: Mapping[str, Any]) -> Self:
        """For a machine that is to be made."""
        if not flags["generic-ip-address"]:
            raise MachineError(
                "Error setting machine configuration from flags provided: "
                "generic driver requires the --generic-ip-address option"
            )
        given = flags["generic-ssh-key"]
        return cls(
            context,
            GenericSettings(
                ip_address=flags["generic-ip-address"],
                machine_name=context.name,
                ssh_user=flags["generic-ssh-user"],
                ssh_port=flags["generic-ssh-port"],
                ssh_key=given,
                ssh_key_path=str(context.directory / "id_rsa") if given else "",
                store_path=str(context.store),
                engine_port=flags["generic-engine-port"],
                keep_hostname=flags["generic-keep-hostname"],
            ),
        )

    @classmethod
    def from_record(cls, context: Context, settings: Mapping[str, Any]) -> Self:
        """For a machine that was made."""
        return cls(context, msgspec.convert(settings, GenericSettings))

    def settings(self) -> dict[str, Any]:
        """As JSON."""
        return dict(msgspec.to_builtins(self._settings))

    def pre_create_check(self) -> None:
        """The program and the key must be there."""
        if shutil.which("ssh") is None:
            raise PreCreateError("the program ssh is missing: install the package openssh-client")
        if self._settings.ssh_key and not Path(self._settings.ssh_key).is_file():
            raise PreCreateError(f'SSH key does not exist: "{self._settings.ssh_key}"')

    def create(self) -> None:
        """Keeps a copy of the key, and waits for the host's SSH."""
        if self._settings.ssh_key:
            key = self._context.directory / "id_rsa"
            shutil.copyfile(self._settings.ssh_key, key)
            key.chmod(0o600)
        ssh_provisioning.wait_for_ssh(self._host, _SSH_DEADLINE)

    def provision(self, plan: EnginePlan) -> None:
        """Installs what is missing, and starts the daemon anew."""
        name = "-" if self._settings.keep_hostname else self._context.name
        ssh_provisioning.provision(self._host, plan, self._settings.engine_port, name)

    def upgrade(self, plan: EnginePlan) -> None:
        """Installs this command's version."""
        name = "-" if self._settings.keep_hostname else self._context.name
        ssh_provisioning.provision(self._host, plan, self._settings.engine_port, name, reinstall=True)

    def start(self) -> None:
        """Refused."""
        raise NotSupported("generic driver does not support start")

    def stop(self) -> None:
        """Refused."""
        raise NotSupported("generic driver does not support stop")

    def restart(self) -> None:
        """Refused: a reboot is the owner's decision."""
        raise NotSupported(
            "generic driver does not support restart; to reboot the host: "
            f"enxame machine ssh {self._context.name} reboot"
        )

    def kill(self) -> None:
        """Refused."""
        raise NotSupported("generic driver does not support kill")

    def remove(self) -> None:
        """Leaves the host as it is: it was there before."""

    def state(self) -> State:
        """Whether its SSH port answers."""
        try:
            with socket.create_connection((self._settings.ip_address, self._settings.ssh_port), _STATE_DEADLINE):
                return State.RUNNING
        except OSError:
            return State.STOPPED

    def ip(self) -> str:
        """The address that was given."""
        return self._settings.ip_address

    def url(self) -> str:
        """Where its daemon listens."""
        address = self._settings.ip_address
        return f"tcp://{f'[{address}]' if ':' in address else address}:{self._settings.engine_port}"

    def names(self) -> list[str]:
        """None but those that every machine has."""
        return []

    def daemon_log(self) -> str:
        """The end of its daemon's log."""
        script = "journalctl -q -u enxame -n 10 --no-pager 2>/dev/null || tail -n 10 /var/log/enxamed.log 2>/dev/null"
        try:
            return self._host.run(script)
        except MachineError:
            return ""

    def daemon_failed(self) -> bool:
        """Nobody tells."""
        return False

    def shell(self, words: Sequence[str], *, terminal: bool) -> list[str]:
        """``ssh``."""
        return self._host.shell(words, terminal=terminal and not words)

    def copy_command(self, words: Sequence[str]) -> list[str]:
        """``scp``."""
        return self._host.scp(words)

    def mount_command(self, path: str, mountpoint: str) -> list[str]:
        """``sshfs``."""
        options = [word for word in self._host.options(batch=True) if word not in {"-F", "/dev/null"}]
        where = f"{self._settings.ssh_user}@{self._settings.ip_address}:{path}"
        return ["sshfs", *options, "-p", str(self._settings.ssh_port), where, mountpoint]
