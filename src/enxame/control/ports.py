"""Ports published through the routing mesh: one owner per (port, protocol) in the whole swarm."""

from __future__ import annotations

from typing import Final, TypeAlias

from msgspec.structs import replace

from enxame.model.service import PortConfig

DYNAMIC_FIRST: Final = 30000
DYNAMIC_LAST: Final = 32767

PortKey: TypeAlias = tuple[int, str]


class PortTaken(Exception):
    """The port is another service's; ``owner`` is that service's id."""

    def __init__(self, port: int, protocol: str, owner: str) -> None:
        super().__init__(f"port '{port}' is already in use by service '{owner}' as an ingress port")
        self.port = port
        self.protocol = protocol
        self.owner = owner


class NoPortFree(Exception):
    """All of 30000 to 32767 are used."""

    def __init__(self) -> None:
        super().__init__("no dynamic port (30000-32767) is free")


class PortTable:
    """Who owns which port. Host-mode ports are of one node and no business of this table."""

    def __init__(self) -> None:
        self._owner: dict[PortKey, str] = {}
        self._next: dict[str, int] = {}

    def assign(self, service_id: str, wanted: list[PortConfig], current: list[PortConfig]) -> list[PortConfig]:
        """The service's ports as they become; those not wanted any more are given back. Dynamic ports stay as they are.

        Raises:
            PortTaken: nothing changed then.
            NoPortFree: nothing changed then.
        """
        before = self.owned(service_id)
        self.release(service_id)
        try:
            return self._assign(service_id, [normal(port) for port in wanted], [normal(port) for port in current])
        except (PortTaken, NoPortFree):
            self.release(service_id)
            self._owner.update(dict.fromkeys(before, service_id))
            raise

    def owned(self, service_id: str) -> list[PortKey]:
        """The ports that a service holds."""
        return [key for key, owner in self._owner.items() if owner == service_id]

    def ledger(self) -> dict[PortKey, str]:
        """Every port's owner."""
        return dict(self._owner)

    def release(self, service_id: str) -> None:
        """Give all ports of a service back."""
        for key in self.owned(service_id):
            del self._owner[key]

    def _assign(self, service_id: str, wanted: list[PortConfig], current: list[PortConfig]) -> list[PortConfig]:
        kept = [port for port in current if port.publish_mode == "ingress" and port.published_port]
        for port in wanted:
            if port.publish_mode == "ingress" and port.published_port:
                self._claim(service_id, port.published_port, port.protocol)
        result = []
        for port in wanted:
            if port.publish_mode != "ingress" or port.published_port:
                result.append(port)
                continue
            published = self._keep(service_id, port, kept) or self._dynamic(service_id, port.protocol)
            result.append(replace(port, published_port=published))
        return result

    def _claim(self, service_id: str, port: int, protocol: str) -> None:
        owner = self._owner.get((port, protocol))
        if owner is not None and owner != service_id:
            raise PortTaken(port, protocol, owner)
        self._owner[port, protocol] = service_id

    def _keep(self, service_id: str, port: PortConfig, kept: list[PortConfig]) -> int:
        for index, old in enumerate(kept):
            same = replace(old, published_port=0) == port
            if same and (old.published_port, old.protocol) not in self._owner:
                self._owner[old.published_port, old.protocol] = service_id
                del kept[index]
                return old.published_port
        return 0

    def _dynamic(self, service_id: str, protocol: str) -> int:
        size = DYNAMIC_LAST - DYNAMIC_FIRST + 1
        start = self._next.get(protocol, 0)
        for offset in range(size):
            port = DYNAMIC_FIRST + (start + offset) % size
            if (port, protocol) not in self._owner:
                self._owner[port, protocol] = service_id
                self._next[protocol] = (start + offset + 1) % size
                return port
        raise NoPortFree


def normal(port: PortConfig) -> PortConfig:
    """The port with its defaults filled in: tcp, ingress."""
    return replace(port, protocol=port.protocol or "tcp", publish_mode=port.publish_mode or "ingress")
