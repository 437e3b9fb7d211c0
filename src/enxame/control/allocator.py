"""Gives networks their subnets, services their ports and virtual addresses, tasks their addresses.

What is taken is derived from the stored objects, so nothing can leak over a change of leadership. What cannot be had
now waits, says why in the waiting tasks' error, and is tried again as soon as something is given back.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from enxame.control.allocated_networks import AllocatedNetworks, Wait
from enxame.control.allocated_services import AllocatedServices
from enxame.control.board import Board
from enxame.control.enforcer import REJECTED_BY_ENFORCER
from enxame.control.network_state import NetworkState, is_node_local
from enxame.control.new_task import vips_by_network
from enxame.model.attachment import Attachment
from enxame.model.network import Network
from enxame.model.service import Service, TaskSpec
from enxame.model.task import NetworkAttachment, Task, TaskState, TaskStatus

PENDING_MESSAGE = "pending task scheduling"


@dataclass(slots=True)
class _Wanted:
    """A network that the tasks of a service attach to. ``state`` is None for node-local networks."""

    network: Network
    state: NetworkState | None
    aliases: list[str]


class Allocator:
    """Knows what is taken. Called twice in a pass: for networks and services, later for tasks."""

    def __init__(self) -> None:
        self._networks = AllocatedNetworks()
        self._services = AllocatedServices(self._networks)
        #: Addresses by id of task or attachment: (network id, address).
        self._held: dict[str, list[tuple[str, str]]] = {}
        self._waiting_tasks: dict[str, None] = {}

    def start(self, board: Board) -> None:
        """Derive what is taken from the stored objects."""
        self.__init__()  # type: ignore[misc]
        tx = board.tx
        self._networks.start(board)
        for service in tx.all(Service):
            self._services.adopt(service)
        for task in board.tasks.values():
            self._account(task)
        for attachment in tx.all(Attachment):
            self._account_attachment(attachment)

    def networks_and_services(self, board: Board) -> None:
        """Allocate the pass's dirty networks and services, and those that wait if something was given back."""
        self._networks.configure(board)
        for network_id in board.dirty_networks:
            self._networks.allocate(board, network_id)
        for task_id in board.changed:
            self._account_id(board, task_id)
        for service_id in board.dirty_services:
            if board.service(service_id) is None:
                self._services.forget(board, service_id)
        if self._networks.freed or board.dirty_networks:
            self._networks.retry(board)
            board.dirty_services.update(dict.fromkeys(self._services.waiting))
        for service_id in list(board.dirty_services):
            self._services.allocate(board, service_id)
        if self._networks.freed:
            for service_id in list(self._services.waiting):
                board.dirty_services[service_id] = None
                self._services.allocate(board, service_id)

    def tasks(self, board: Board) -> None:
        """Allocate new tasks; take back what dead ones held."""
        for task_id in board.changed:
            self._account_id(board, task_id)
        for attachment_id in board.dirty_attachments:
            self._attachment(board, attachment_id)
        self._services.forget_ended(board)
        retry = self._networks.freed or board.dirty_services or board.dirty_networks
        todo = {**self._waiting_tasks, **board.changed} if retry else dict(board.changed)
        self._networks.freed = False
        wanted: dict[tuple[str, int], list[_Wanted] | str] = {}
        for task_id in todo:
            task = board.tasks.get(task_id)
            if task is None or task.status.state is not TaskState.NEW or task.desired_state > TaskState.COMPLETE:
                self._waiting_tasks.pop(task_id, None)
                continue
            service = board.service(task.service_id)
            if service is None:
                continue
            key = (service.id, id(task.spec.networks))
            if key not in wanted:
                wanted[key] = self._plan(board, service, task.spec)
            self._task(board, service, task, wanted[key])

    def ledger(self) -> dict[str, object]:
        """All that is taken, by what it is."""
        entries: dict[str, object] = {}
        for network_id, state in self._networks:
            for pool in state.pools:
                entries[f"addresses of {network_id} {pool.network}"] = pool.taken()
        for task_id, held in self._held.items():
            entries[f"addresses of task {task_id}"] = held
        return {**entries, **self._services.ledger()}

    # Tasks

    def _plan(self, board: Board, service: Service, spec: TaskSpec) -> list[_Wanted] | str:
        reason = self._services.waiting.get(service.id)
        if reason is not None:
            return reason
        wanted: list[_Wanted] = []
        try:
            if any(port.publish_mode == "ingress" for port in service.endpoint.ports):
                ingress = self._networks.ingress()
                wanted.append(_Wanted(ingress.network, ingress, []))
            for config in spec.networks:
                network, state = self._networks.find(board, config.target)
                if all(other.network.id != network.id for other in wanted):
                    wanted.append(_Wanted(network, state, config.aliases))
        except Wait as waiting:
            return str(waiting)
        return wanted

    def _task(self, board: Board, service: Service, task: Task, wanted: list[_Wanted] | str) -> None:
        if isinstance(wanted, str):
            self._wait(board, task, wanted)
            return
        attachments: list[NetworkAttachment] = []
        held: list[tuple[str, str]] = []
        for want in wanted:
            addresses: list[str] = []
            if want.state is not None:
                taken = want.state.take()
                if taken is None:
                    for network_id, address in held:
                        self._networks.undo(network_id, address)
                    name = want.network.spec.name
                    self._wait(board, task, f"could not find an available IP on network {name} ({want.network.id})")
                    return
                addresses = taken
                held.extend((want.network.id, address) for address in addresses)
            attachments.append(NetworkAttachment(network=want.network, addresses=addresses, aliases=want.aliases))
        if held:
            self._held[task.id] = held
        self._waiting_tasks.pop(task.id, None)
        endpoint = service.endpoint
        internal = task.internal
        if internal is not None and (endpoint.ports or endpoint.virtual_ips):
            internal = replace(internal, ports=endpoint.ports, virtual_ips=vips_by_network(endpoint))
        board.change(
            task,
            networks_attachments=attachments,
            internal=internal,
            status=TaskStatus(timestamp=board.now.wall, state=TaskState.PENDING, message=PENDING_MESSAGE),
        )

    def _wait(self, board: Board, task: Task, reason: str) -> None:
        self._waiting_tasks[task.id] = None
        if task.status.err != reason:
            status = replace(task.status, timestamp=board.now.wall, err=reason)
            board.change(task, status=status)

    def _account_id(self, board: Board, task_id: str) -> None:
        task = board.tasks.get(task_id)
        if task is None:
            self._take_back(task_id)
            self._waiting_tasks.pop(task_id, None)
        else:
            self._account(task)

    def _account(self, task: Task) -> None:
        state = task.status.state
        # Rejected by the enforcer it may still run: its addresses stay its own until it is deleted.
        if state.is_terminal and task.status.message != REJECTED_BY_ENFORCER:
            self._take_back(task.id)
        elif state is TaskState.NEW:
            if task.desired_state <= TaskState.COMPLETE:
                self._waiting_tasks[task.id] = None
        elif state is TaskState.PENDING and task.desired_state > TaskState.COMPLETE:
            self._take_back(task.id)
        elif task.networks_attachments and task.id not in self._held:
            held = []
            for attachment in task.networks_attachments:
                network = self._networks.get(attachment.network.id)
                if network is not None:
                    held += [(network.network.id, addr) for addr in attachment.addresses if network.claim(addr)]
            if held:
                self._held[task.id] = held

    # Containers outside services

    def _attachment(self, board: Board, attachment_id: str) -> None:
        """Whoever asks waits for the answer: there is one at once, an address or the reason why there is none."""
        attachment = board.tx.get(Attachment, attachment_id)
        if attachment is None:
            self._take_back(attachment_id)
            return
        if attachment.addresses or attachment.err:
            self._account_attachment(attachment)
            return
        network = board.tx.get(Network, attachment.network_id)
        if network is not None and is_node_local(network):
            return  # its node gives it one
        self._take_back(attachment_id)  # it was deleted and is wanted anew
        state = self._networks.get(attachment.network_id)
        addresses: list[str] | None = None
        if state is None:
            err = f"network {attachment.network_id} cannot be used: {self._networks.why_not(attachment.network_id)}"
        else:
            err = f"could not find an available IP on network {state.network.spec.name} ({state.network.id})"
            try:
                addresses = state.take_wanted(attachment.wanted)
            except ValueError as taken:
                err = f"requested address {taken} on network {state.network.spec.name} is not available"
        if addresses:
            self._held[attachment_id] = [(attachment.network_id, address) for address in addresses]
            board.tx.update(replace(attachment, addresses=addresses))
        else:
            board.tx.update(replace(attachment, err=err))

    def _account_attachment(self, attachment: Attachment) -> None:
        state = self._networks.get(attachment.network_id)
        if state is None or attachment.id in self._held:
            return
        held = [(attachment.network_id, address) for address in attachment.addresses if state.claim(address)]
        if held:
            self._held[attachment.id] = held

    def _take_back(self, task_id: str) -> None:
        for network_id, address in self._held.pop(task_id, ()):
            self._networks.release(network_id, address)
