"""Sockets that systemd opened and handed over (sd_listen_fds(3)): the daemon starts when somebody first asks."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final

_FIRST: Final = 3


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A listening socket and the ``FileDescriptorName=`` of its unit (the unit's name by default)."""

    name: str
    descriptor: int

    def open(self) -> socket.socket:
        """The socket itself, for us alone. Raises OSError when the descriptor is no socket."""
        sock = socket.socket(fileno=self.descriptor)
        sock.set_inheritable(False)
        return sock


def handed_over(environment: MutableMapping[str, str] = os.environ, pid: int | None = None) -> list[HandedOver]:
    """What was handed over to this process. The variables that tell of it are taken away: they are not for children."""
    told = {name: environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if told["LISTEN_PID"] != str(os.getpid() if pid is None else pid) or not told["LISTEN_FDS"].isdigit():
        return []
    names = told["LISTEN_FDNAMES"].split(":")
    names += ["unknown"] * int(told["LISTEN_FDS"])
    return [HandedOver(names[number], _FIRST + number) for number in range(int(told["LISTEN_FDS"]))]
