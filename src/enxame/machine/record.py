"""What is remembered of a machine: ``config.json`` in its directory, with docker-machine's keys."""

import re
from typing import Any, Final

import msgspec

from enxame.machine.errors import MachineError

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-.]*")
#: Linux knows no longer host name.
_LONGEST: Final = 63


class EngineOptions(msgspec.Struct, kw_only=True, rename="pascal"):
    """How the machine's daemon is to run."""

    arbitrary_flags: list[str] = []
    env: list[str] = []
    insecure_registry: list[str] = []
    labels: list[str] = []
    registry_mirror: list[str] = []
    storage_driver: str = ""
    install_url: str = msgspec.field(default="", name="InstallURL")
    tls_verify: bool = True


class AuthOptions(msgspec.Struct, kw_only=True, rename="pascal"):
    """Where the certificates are."""

    cert_dir: str = ""
    ca_cert_path: str = ""
    ca_private_key_path: str = ""
    client_cert_path: str = ""
    client_key_path: str = ""
    server_cert_path: str = ""
    server_key_path: str = ""
    server_cert_sans: list[str] = msgspec.field(default_factory=list, name="ServerCertSANs")
    store_path: str = ""


class HostOptions(msgspec.Struct, kw_only=True, rename="pascal"):
    """Options that are the same for all drivers."""

    engine_options: EngineOptions = msgspec.field(default_factory=EngineOptions)
    auth_options: AuthOptions = msgspec.field(default_factory=AuthOptions)


class Record(msgspec.Struct, kw_only=True, rename="pascal"):
    """One machine. ``driver`` belongs to the driver named ``driver_name``."""

    config_version: int = 3
    driver: dict[str, Any] = {}
    driver_name: str = ""
    host_options: HostOptions = msgspec.field(default_factory=HostOptions)
    name: str = ""


def check_name(name: str) -> None:
    """Raises MachineError for what cannot be a host's name."""
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        raise MachineError(
            f'Error creating machine: Invalid hostname specified: "{name}". '
            f"Allowed hostname chars are: 0-9a-zA-Z . - (at most {_LONGEST})"
        )
