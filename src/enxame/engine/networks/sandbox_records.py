"""What each connected container has, kept as files so that a restarted daemon finds everything again.

The files are under the exec root: like the namespaces that they describe, they do not outlive a reboot.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from msgspec import field

from enxame.engine.page_file import read_record, write_record
from enxame.engine.sandbox import SandboxInfo, SandboxRequest
from enxame.errors import EnxameError
from enxame.model.base import Model, decode, encode
from enxame.network.ports import PublishedPort

_log = logging.getLogger(__name__)


class PublishedRecord(Model):
    """A published port as stored; ``host_ip`` empty: every address of this machine. ``companion``: the host's port is
    held with that of another record.
    """

    protocol: str = ""
    host_ip: str = ""
    host_port: int = 0
    target_ip: str = ""
    target_port: int = 0
    companion: bool = False

    @classmethod
    def of(cls, port: PublishedPort, *, companion: bool = False) -> PublishedRecord:
        """To store."""
        return cls(
            companion=companion,
            protocol=port.protocol,
            host_ip=str(port.host_ip) if port.host_ip is not None else "",
            host_port=port.host_port,
            target_ip=str(port.target_ip),
            target_port=port.target_port,
        )

    def port(self) -> PublishedPort:
        """To program."""
        return PublishedPort(
            protocol=self.protocol,
            host_ip=ip_address(self.host_ip) if self.host_ip else None,
            host_port=self.host_port,
            target_ip=ip_address(self.target_ip),
            target_port=self.target_port,
        )


class InterfaceRecord(Model):
    """A container's link to a network: its end on this machine and its end inside."""

    link: str = ""
    inner: str = ""


class SandboxRecord(Model):
    """One container's connection. ``interfaces`` by network id. ``serving``: see ``SandboxRequest.waits_to_serve``."""

    container_id: str = ""
    name: str = ""
    request: SandboxRequest = field(default_factory=SandboxRequest)
    info: SandboxInfo = field(default_factory=SandboxInfo)
    interfaces: dict[str, InterfaceRecord] = field(default_factory=dict)
    published: list[PublishedRecord] = field(default_factory=list)
    serving: bool = False

    @property
    def links(self) -> list[str]:
        """Its links' names on this machine."""
        return [interface.link for interface in self.interfaces.values() if interface.link]


class SandboxFiles:
    """The records under ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self) -> list[SandboxRecord]:
        """All of them; one that cannot be read is reported and dropped."""
        self._directory.mkdir(parents=True, exist_ok=True)
        records: list[SandboxRecord] = []
        for path in self._directory.glob("*.json"):
            try:
                records.append(decode(read_record(path), SandboxRecord))
            except (EnxameError, OSError) as error:
                _log.error("the record of a container's network %s cannot be used: %s", path, error)
                path.unlink(missing_ok=True)
        return records

    def save(self, record: SandboxRecord) -> None:
        """Whole or not at all, but not necessarily on the disk: a crash of the machine ends the namespace too."""
        write_record(self._file(record.container_id), encode(record))

    def discard(self, container_id: str) -> None:
        """Idempotent."""
        self._file(container_id).unlink(missing_ok=True)

    def _file(self, container_id: str) -> Path:
        return self._directory / f"{container_id}.json"


def namespaces_of(records: Iterable[SandboxRecord]) -> frozenset[str]:
    """File names of the namespaces in use."""
    return frozenset(Path(record.info.netns_path).name for record in records if record.info.netns_path)
