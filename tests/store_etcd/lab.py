"""Real etcd members on loopback ports, with the swarm's certificates, each with its manager's parts."""

import asyncio
import contextlib
import os
import random
import signal
import socket
from datetime import UTC, datetime, timedelta

from enxame.errors import Conflict, EnxameError
from enxame.model.service import Service, ServiceSpec
from enxame.security import ca
from enxame.store.etcd import EtcdBackend
from enxame.store.etcd_client import EtcdClient
from enxame.store.etcd_files import TlsFiles
from enxame.store.etcd_import import import_state
from enxame.store.etcd_leadership import Leadership
from enxame.store.etcd_members import EtcdMembers
from enxame.store.etcd_messages import EtcdUnavailable
from enxame.store.etcd_program import EtcdSettings
from enxame.store.etcd_server import EtcdServer
from enxame.store.store import Store
from enxame.testing.promises import allowed

#: How long a calm manager leads without an answer: seconds.
LONG = 300.0


def free_ports(count):
    """Ports that nobody listens on, outside of those that the kernel gives to whoever connects meanwhile."""
    found = []
    while len(found) < count:
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", random.randrange(10_000, 32_000)))
            found.append(one.getsockname()[1])
    return found


async def until(condition, timeout=15.0, what=""):
    """Waits for a condition; a failure says which."""
    timeout = allowed(timeout)
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        found = condition()
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, f"not within {timeout} s: {what or condition}"
        await asyncio.sleep(0.005)


class Authority:
    """A swarm's root, and certificates on disk."""

    def __init__(self, directory):
        self.directory = directory
        self.root = ca.create_root(datetime.now(UTC))

    def files(self, name, *, role="manager", addresses=("127.0.0.1",)):
        directory = self.directory / f"certificates-{name}"
        directory.mkdir(parents=True, exist_ok=True)
        pair = ca.issue_node_certificate(
            self.root,
            node_id=name,
            role=role,
            cluster_id="c1",
            expiry=timedelta(hours=2),
            now=datetime.now(UTC),
            addresses=addresses,
        )
        files = TlsFiles(directory / "node.crt", directory / "node.key", directory / "ca.crt")
        files.cert.write_text(pair.cert)
        files.key.write_text(pair.key)
        files.key.chmod(0o600)
        files.ca.write_text(self.root.cert)
        return files


async def put(manager, id_):
    """Create a service through one manager."""
    await manager.store.update(lambda tx: tx.create(Service(id=id_, spec=ServiceSpec(name=f"name-{id_}"))))


async def first_write(managers, id_, timeout=10.0):
    """The manager that takes a write: leadership may move whenever the machine is too busy for heartbeats."""
    deadline = asyncio.get_running_loop().time() + allowed(timeout)
    while True:
        for manager in managers:
            if manager.leads:
                try:
                    await put(manager, id_)
                except Conflict:
                    return manager  # an attempt before, whose outcome was not known
                except EnxameError:
                    continue
                return manager
        assert asyncio.get_running_loop().time() < deadline, "nobody takes a write"
        await asyncio.sleep(0.005)


class Manager:
    """One manager's etcd member, client, store and leadership.

    A ``calm`` one leads on however long nobody answers: for what is alone, and not about leading.
    """

    def __init__(self, lab, name, data_dir=None, *, calm=False):
        self.lab = lab
        self.name = name
        peer, client = free_ports(2)
        self.settings = EtcdSettings(
            name=name,
            data_dir=data_dir or lab.directory / f"etcd-{name}",
            tls=lab.authority.files(name),
            peer_host="127.0.0.1",
            peer_listen="127.0.0.1",
            peer_port=peer,
            client_port=client,
            cluster_token="test",
        )
        self.validity = LONG if calm else self.settings.election_timeout - self.settings.heartbeat
        self.client = None
        self.server = None
        self.store = None
        self.leadership = None
        self.epochs = []
        self.losses = 0
        self._task = None

    async def start_member(self, *, joining=None, **options):
        changes = {"joining": True, "initial_cluster": joining} if joining else {}
        self.settings = EtcdSettings(**{f: getattr(self.settings, f) for f in self.settings.__slots__} | changes)
        self.client = EtcdClient(self.settings.client_endpoint, self.settings.tls)
        self.server = EtcdServer(self.settings, answers=self._answers)
        await self.server.start(**options)

    async def _answers(self):
        await self.client.status(timeout=0.5)

    async def open_store(self):
        self.backend = EtcdBackend(self.client)
        self.backend.trouble = lambda: self.server.trouble
        self.store = Store(self.backend)
        await self.store.start()

    def lead(self):
        """Begin to follow leadership."""

        def lost():
            self.losses += 1

        self.leadership = Leadership(
            self.client,
            self.backend,
            node_id=self.name,
            gained=self.epochs.append,
            lost=lost,
            validity=self.validity,
        )
        self._task = asyncio.create_task(self.leadership.run())

    @property
    def leads(self):
        return self.leadership is not None and self.leadership.leads

    @property
    def members(self):
        return EtcdMembers(self.client)

    def signal(self, number):
        os.kill(self.server.pid, number)

    async def stop_manager(self):
        """The daemon's parts end, as when the process dies; the member does not."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self.store is not None:
            await self.store.close()
            self.store = None
        self.leadership = None

    async def stop(self):
        if self.server is not None and self.server.pid is not None:
            # Asked to stop all at once, members wait for each other.
            self.server._stopping = True
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
        await self.stop_manager()
        if self.server is not None:
            await self.server.stop()
        if self.client is not None:
            await self.client.close()


class Lab:
    def __init__(self, directory):
        self.directory = directory
        self.authority = Authority(directory)
        self.managers = []

    def manager(self, name=None, **options):
        manager = Manager(self, name or f"m{len(self.managers) + 1}", **options)
        self.managers.append(manager)
        return manager

    async def first(self, *, revision=0, records=(), lead=True, calm=False, **options):
        """A cluster of one with a state."""
        manager = self.manager(calm=calm, **options)
        await manager.start_member()
        await until_voting(manager)
        await import_state(manager.client, revision, list(records))
        await manager.open_store()
        if lead:
            manager.lead()
            await until(lambda: manager.leads, what="the first manager leads")
        return manager

    async def join(self, through, name=None, *, lead=True):
        manager = self.manager(name)
        joining = await through.members.add(manager.name, manager.settings.peer_url)
        await manager.start_member(joining=joining)
        await through.members.promote(manager.name)
        await until_voting(manager)
        await manager.open_store()
        if lead:
            manager.lead()
        return manager

    async def cluster(self, count, **options):
        first = await self.first(**options)
        for _ in range(count - 1):
            await self.join(first)
        return list(self.managers)

    async def leader(self, among=None, timeout=10.0):
        """The manager that leads."""
        among = among or self.managers
        return await until(lambda: next((m for m in among if m.leads), None), timeout, "somebody leads")

    async def close(self):
        await asyncio.gather(*(manager.stop() for manager in self.managers))


async def until_voting(manager, timeout=10.0):
    deadline = asyncio.get_running_loop().time() + allowed(timeout)
    while True:
        with contextlib.suppress(EtcdUnavailable):
            status = await manager.client.status(timeout=1.0)
            if status.leader and not status.learner:
                return
        assert asyncio.get_running_loop().time() < deadline, "the member does not get to vote"
        await asyncio.sleep(0.01)
