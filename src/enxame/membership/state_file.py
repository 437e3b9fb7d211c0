"""What this node remembers of its membership, on disk: ``swarm/node.json``. Its presence means: part of a swarm."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec import field

from enxame.errors import EnxameError
from enxame.model.base import Model


class NodeState(Model):
    """Identity and addresses of this node in its swarm."""

    node_id: str = ""
    cluster_id: str = ""
    role: str = "manager"
    listen_addr: str = ""
    advertise_addr: str = ""
    #: Given by the user, else empty: packets of containers come where the node is advertised.
    data_path_addr: str = ""
    #: Of the swarm, as this node last knew it: it follows no manager of a lower one.
    incarnation: int = 0
    #: This machine's interface that had the advertised address; empty when none had it (it is another machine's, or
    #: translated on the way).
    interface: str = ""
    #: Of one manager of several: the others look for it at a former address, until it has told them.
    moved: bool = False
    #: Of a manager that was recovered at another address: where the one before may come back.
    former: str = ""
    #: Where managers were last known to listen (``host:port``); for workers.
    managers: list[str] = field(default_factory=list)


def read(path: Path) -> NodeState | None:
    """The state, or None when this node is in no swarm.

    Raises:
        EnxameError: the file is there but cannot be read; says so rather than forgetting a swarm.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EnxameError(f"cannot read the swarm state {path}: {error.strerror}") from error
    try:
        return msgspec.json.decode(data, type=NodeState)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise EnxameError(
            f"the swarm state {path} is damaged ({error}); restore it from a backup or remove it"
        ) from error


def write(path: Path, state: NodeState) -> None:
    """Write durably and atomically. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(msgspec.json.encode(state))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
