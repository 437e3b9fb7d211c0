"""What the swarm's services were given: published ports and virtual addresses."""

from __future__ import annotations

import ipaddress

from msgspec.structs import replace

from enxame.control.allocated_networks import AllocatedNetworks, Wait
from enxame.control.board import Board
from enxame.control.network_state import NetworkState
from enxame.control.ports import NoPortFree, PortTable, PortTaken, normal
from enxame.model.service import Endpoint, EndpointSpec, Service, VirtualIP

__all__ = ["AllocatedServices"]


class AllocatedServices:
    """``waiting``: why each service waits that could not be given what it asks for."""

    def __init__(self, networks: AllocatedNetworks) -> None:
        self.waiting: dict[str, str] = {}
        self._networks = networks
        self._ports = PortTable()
        #: Virtual addresses by service id and network id.
        self._vips: dict[str, dict[str, list[str]]] = {}
        self._deleted: dict[str, None] = {}

    def allocate(self, board: Board, service_id: str) -> None:
        """Give a service what it asks for; or note why that cannot be."""
        service = board.service(service_id)
        if service is not None:
            self._service(board, service)

    def _service(self, board: Board, service: Service) -> None:
        """All or nothing: what the stored endpoint shows stays the service's until the new one is complete."""
        self.waiting.pop(service.id, None)
        spec = service.spec.endpoint_spec or EndpointSpec()
        owned = self._ports.owned(service.id)
        held = self._vips.setdefault(service.id, {})
        fresh: list[tuple[str, str]] = []
        try:
            wanted = self._vip_networks(board, service, spec)
            self._take_vips(held, wanted, fresh)
            ports = self._ports.assign(service.id, spec.ports, service.endpoint.ports)
        except (PortTaken, NoPortFree, Wait) as reason:
            for network_id, address in fresh:
                self._networks.undo(network_id, address)
                held[network_id].remove(address)
                if not held[network_id]:
                    del held[network_id]
            self.waiting[service.id] = self._explain(board, reason)
            return
        for network_id in set(held) - {state.network.id for state in wanted}:
            for address in held.pop(network_id):
                self._networks.release(network_id, address)
        if set(owned) - set(self._ports.owned(service.id)):
            self._networks.freed = True
        virtual_ips = [
            VirtualIP(network_id=state.network.id, addr=address)
            for state in wanted
            for address in held[state.network.id]
        ] + self._without_address(board, service, spec)
        endpoint = Endpoint(spec=spec, ports=ports, virtual_ips=virtual_ips)
        if endpoint != service.endpoint:
            board.update_service(replace(service, endpoint=endpoint))

    def _without_address(self, board: Board, service: Service, spec: EndpointSpec) -> list[VirtualIP]:
        """The networks where nodes give addresses: there is no virtual one. As Swarm shows it."""
        if (spec.mode or "vip") != "vip":
            return []
        configs = service.spec.task_template.networks or service.spec.networks
        found = dict.fromkeys(self._networks.find(board, config.target)[0].id for config in configs)
        return [VirtualIP(network_id=network_id) for network_id in found if network_id not in self._networks]

    def _vip_networks(self, board: Board, service: Service, spec: EndpointSpec) -> list[NetworkState]:
        if (spec.mode or "vip") != "vip":
            return []
        wanted = []
        if any(normal(port).publish_mode == "ingress" for port in spec.ports):
            wanted.append(self._networks.ingress())
        for config in service.spec.task_template.networks or service.spec.networks:
            state = self._networks.find(board, config.target)[1]
            if state is not None and state not in wanted:
                wanted.append(state)
        return wanted

    @staticmethod
    def _take_vips(held: dict[str, list[str]], wanted: list[NetworkState], fresh: list[tuple[str, str]]) -> None:
        """Take what is missing to one address of each version of IP on each network; it is noted in ``fresh``."""
        for state in wanted:
            have = {ipaddress.ip_interface(address).version for address in held.get(state.network.id, ())}
            for version in state.vip_versions:
                if version in have:
                    continue
                address = state.take_vip(version)
                if address is None:
                    raise Wait("could not find an available IP while allocating VIP")
                held.setdefault(state.network.id, []).append(address)
                fresh.append((state.network.id, address))

    @staticmethod
    def _explain(board: Board, reason: Exception) -> str:
        if not isinstance(reason, PortTaken):
            return str(reason)
        owner = board.service(reason.owner)
        name = owner.spec.name if owner is not None else reason.owner
        return f"port '{reason.port}' is already in use by service '{name}' ({reason.owner}) as an ingress port"

    def adopt(self, service: Service) -> None:
        """What a stored service shows is its own."""
        ports = [normal(port) for port in service.endpoint.ports if port.published_port]
        try:
            self._ports.assign(service.id, ports, ports)
        except PortTaken as taken:
            self.waiting[service.id] = str(taken)
        held = self._vips.setdefault(service.id, {})
        for vip in service.endpoint.virtual_ips:
            state = self._networks.get(vip.network_id)
            if state is not None and state.claim(vip.addr):
                held.setdefault(vip.network_id, []).append(vip.addr)

    def forget(self, board: Board, service_id: str) -> None:
        """The service was deleted; its virtual addresses rest until its tasks are gone, too."""
        self.waiting.pop(service_id, None)
        if self._ports.owned(service_id):
            self._ports.release(service_id)
            self._networks.freed = True
        if service_id in board.slots:
            self._deleted[service_id] = None
        else:
            self._release_vips(service_id)

    def forget_ended(self, board: Board) -> None:
        """Take back the virtual addresses of deleted services whose tasks are gone."""
        for service_id in list(self._deleted):
            if service_id not in board.slots:
                self._release_vips(service_id)
                del self._deleted[service_id]

    def ledger(self) -> dict[str, object]:
        """All that services have taken, by what it is."""
        held = {f"virtual addresses of {service_id}": vips for service_id, vips in self._vips.items() if vips}
        return {**held, "ports": self._ports.ledger()}

    def _release_vips(self, service_id: str) -> None:
        for network_id, addresses in self._vips.pop(service_id, {}).items():
            for address in addresses:
                self._networks.release(network_id, address)
