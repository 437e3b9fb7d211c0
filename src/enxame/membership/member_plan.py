"""How this manager's etcd members run: names, addresses, certificates."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from enxame.errors import EnxameError, Unavailable
from enxame.membership.addresses import host_of
from enxame.membership.state_file import NodeState
from enxame.store.etcd_files import TlsFiles
from enxame.store.etcd_program import EtcdSettings
from enxame.store.etcd_server import installed_version

__all__ = ["MemberPlan", "manager_trouble"]

_LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """``tls`` are this manager's files; ``peer_port`` is where other managers' members find this one's."""

    state: NodeState
    tls: TlsFiles
    peer_port: int

    def settings(self, place: Path, cluster: Mapping[str, str] | None) -> EtcdSettings:
        """For a member with its data at ``place``; one that joins is told who is there already."""
        return EtcdSettings(
            name=self.state.node_id,
            data_dir=place,
            tls=self.tls,
            peer_host=host_of(self.state.advertise_addr),
            peer_listen=host_of(self.state.listen_addr) or "0.0.0.0",
            peer_port=self.peer_port,
            client_host=_LOOPBACK,
            # Nobody else has to know it: another one at every start.
            client_port=_free_port(),
            cluster_token=self.state.cluster_id,
            initial_cluster=cluster or {},
            joining=cluster is not None,
        )

    @property
    def peer_url(self) -> str:
        """Where other managers' members find this one's."""
        host = host_of(self.state.advertise_addr)
        return f"https://[{host}]:{self.peer_port}" if ":" in host else f"https://{host}:{self.peer_port}"


async def manager_trouble() -> str:
    """Why this machine could not take part in a swarm of several managers; empty when it could."""
    try:
        await installed_version()
    except (EnxameError, OSError) as error:
        return error.message if isinstance(error, Unavailable) else f"etcd cannot be started: {error}"
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])
