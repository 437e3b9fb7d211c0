"""What a driver of machines is. Third parties add theirs with an entry point in the group ``enxame.machine_drivers``.

A driver makes hosts and looks after them; the command does the rest (names, certificates, tables, waiting for the
daemon). All methods block; they raise MachineError with a text for the user, PreCreateError from ``pre_create_check``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from enxame.machine.record import EngineOptions

ENTRY_POINTS = "enxame.machine_drivers"


class State(StrEnum):
    """A machine's state, in docker-machine's words."""

    RUNNING = "Running"
    PAUSED = "Paused"
    SAVED = "Saved"
    STOPPED = "Stopped"
    STOPPING = "Stopping"
    STARTING = "Starting"
    ERROR = "Error"
    TIMEOUT = "Timeout"
    UNKNOWN = ""


@dataclass(frozen=True)
class DriverFlag:
    """A flag of ``machine create`` that one driver adds. ``name`` is its long name; ``parse`` raises ValueError."""

    name: str
    summary: str
    default: Any = ""
    environment: str = ""
    kind: str = "string"  # string, int, switch, list


@dataclass(frozen=True)
class Context:
    """Which machine a driver object is for. ``directory`` is the machine's own, ``store`` that of all machines."""

    name: str
    directory: Path
    store: Path


@dataclass(frozen=True)
class EnginePlan:
    """How the daemon of a machine is to be: its options and the certificates of its TLS socket (files on this host)."""

    options: EngineOptions
    ca: Path
    certificate: Path
    key: Path
    labels: Mapping[str, str] = field(default_factory=dict)

    def daemon_options(self) -> dict[str, Any]:
        """What the options mean in the daemon's configuration file."""
        options: dict[str, Any] = {"labels": [f"{key}={value}" for key, value in self.labels.items()]}
        if self.options.insecure_registry:
            options["insecure-registries"] = self.options.insecure_registry
        if self.options.registry_mirror:
            options["registry-mirrors"] = self.options.registry_mirror
        for text in self.options.arbitrary_flags:
            key, separator, value = text.lstrip("-").partition("=")
            options[key] = value if separator else True
        return options


class Driver(Protocol):
    """A machine, seen by its driver. ``name`` is the driver's; ``label`` is what ``ls`` shows."""

    name: ClassVar[str]
    flags: ClassVar[Sequence[DriverFlag]]

    @classmethod
    def from_flags(cls, context: Context, flags: Mapping[str, Any]) -> Self:
        """For a machine that is to be made; ``flags`` by long name. Raises MachineError for missing ones."""
        ...

    @classmethod
    def from_record(cls, context: Context, settings: Mapping[str, Any]) -> Self:
        """For a machine that was made; ``settings`` is what :meth:`settings` gave."""
        ...

    def settings(self) -> dict[str, Any]:
        """All that must be remembered, as JSON. Saved after every call that changes something."""
        ...

    def pre_create_check(self) -> None:
        """Raises PreCreateError when the machine cannot be made. Changes nothing."""
        ...

    def create(self) -> None:
        """Makes the host and waits until it can be provisioned. What it made when it fails, it undoes in ``remove``."""
        ...

    def provision(self, plan: EnginePlan) -> None:
        """Installs the daemon where it is missing, hands out its options and certificates, (re)starts it."""
        ...

    def upgrade(self, plan: EnginePlan) -> None:
        """Brings the daemon to this command's version; else as :meth:`provision`."""
        ...

    def start(self) -> None:
        """Raises MachineError when it runs already."""
        ...

    def stop(self) -> None:
        """Ends it in order; nothing when it is stopped."""
        ...

    def restart(self) -> None:
        """``stop`` and ``start``."""
        ...

    def kill(self) -> None:
        """Ends it at once."""
        ...

    def remove(self) -> None:
        """Takes back all that was made. The machine may be in any state, also half made."""
        ...

    def state(self) -> State:
        """What it does now."""
        ...

    def ip(self) -> str:
        """Its address; raises MachineError when it has none."""
        ...

    def url(self) -> str:
        """Where its daemon listens (``tcp://ADDRESS:PORT``); empty while it does not run."""
        ...

    def names(self) -> list[str]:
        """Further host names and addresses under which the daemon is called, for its certificate."""
        ...

    def daemon_log(self) -> str:
        """The end of the daemon's log, to be shown when it does not answer; empty when it cannot be had."""
        ...

    def daemon_failed(self) -> bool:
        """Whether it is known that the daemon cannot start: nobody needs to wait for it any longer."""
        ...

    def shell(self, words: Sequence[str], *, terminal: bool) -> list[str]:
        """The command line on this host that runs ``words`` (none: a shell) on the machine."""
        ...

    def copy_command(self, words: Sequence[str]) -> list[str]:
        """The command line of ``scp`` for addresses on this machine, which are given as ``:PATH``."""
        ...

    def mount_command(self, path: str, mountpoint: str) -> list[str]:
        """The command line that mounts a directory of the machine on this host. Raises NotSupported."""
        ...
