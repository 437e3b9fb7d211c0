"""The root and the lock where several managers keep the state."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import pytest

from enxame.errors import EnxameError
from enxame.membership import certificate_files
from enxame.membership.state_keys import StateKeys
from enxame.security import roots
from enxame.testing.cluster import Machine
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError
from enxame.testing.managers import Managers, ask
from enxame.transport.identity import Identity, client_context

Docker = Callable[[Machine], Any]
PEER_PORT = 2380


@pytest.fixture
def swarm(several: Managers) -> Managers:
    return several


def own(machine: Machine) -> Identity:
    found = certificate_files.read(machine.data_root / "swarm")
    assert found is not None
    return found


def lets_in(machine: Machine, shown: Identity) -> bool:
    """Whether a manager's etcd lets somebody with this certificate in, as its peer."""
    with machine.network.host.open_socket() as plain:
        plain.settimeout(10)
        plain.connect((machine.network.host_address, PEER_PORT))
        try:
            with client_context(shown).wrap_socket(plain) as link:
                # In TLS 1.3 the server's no comes after the client's own handshake.
                link.sendall(b"GET /version HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n")
                return b"200 OK" in link.recv(4096)
        except (ssl.SSLError, ConnectionError):
            return False


def shuts_out(machine: Machine, shown: Identity) -> bool:
    """Whether the member is there and lets nobody with this certificate in."""
    try:
        return not lets_in(machine, shown)
    except ConnectionRefusedError:
        return False


def trusts_alone(machine: Machine, root: str) -> bool:
    """Whether the manager's etcd has been started again since this is the only root that it is to believe."""
    before, found, after = machine.log.read_text().rpartition("to believe the swarm's new root alone")
    roots_of_member = (machine.exec_root / "swarm" / "roots.crt").read_text()
    return bool(before and found) and "runs as process" in after and roots_of_member == root


class Writer:
    """Writes all the time, through one manager; keeps what was acknowledged."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.written: list[str] = []
        self.refused: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.05):
            number += 1
            name = f"written-{number}"
            try:
                ask(self._machine, "POST", "/configs/create", {"Name": name, "Data": "eA=="})
            except (ApiError, OSError) as error:
                self.refused.append(str(error))
            else:
                self.written.append(name)


def test_the_root_is_rotated_under_load_and_the_old_one_opens_nothing(swarm: Managers, docker: Docker) -> None:
    old = {machine: own(machine) for machine in swarm.managers}
    old_root = own(swarm.manager).root
    assert all(lets_in(machine, old[swarm.manager]) for machine in swarm.managers)
    assert not lets_in(swarm.manager, own(swarm.workers[0])), "a worker is no manager's peer"
    swarm.create_service("web", 4)
    tasks = {task["ID"] for task in swarm.running("web")}
    follower = swarm.followers()[0]

    with Writer(swarm.followers()[1]) as writer:
        shown = docker(follower)("swarm", "ca", "--rotate")
        new_root = own(follower).root
        assert new_root.strip() in shown
        assert new_root != old_root
        # Members start again one after the other, to believe the new root alone.
        for machine in swarm.managers:
            wait_until(lambda machine=machine: trusts_alone(machine, new_root), "its etcd started again", timeout=40)  # type: ignore[misc]
            wait_until(
                lambda machine=machine: shuts_out(machine, replace(old[machine], next_root=new_root)),  # type: ignore[misc]
                "the old certificate opens nothing",
                timeout=20,
            )
        wait_until(swarm.all_reachable, "all managers are reachable", timeout=20)
        before = len(writer.written)
        wait_until(lambda: len(writer.written) > before + 3, "writes go on", timeout=20)

    assert writer.refused == []
    found = {config["Spec"]["Name"] for config in swarm.manager.api.get("/configs")}
    assert set(writer.written) <= found
    for machine in swarm.machines:
        trusted = own(machine)
        assert (trusted.root, trusted.next_root) == (new_root, "")
        assert roots.is_issued_by(trusted.certificate, new_root)
    assert all(lets_in(machine, own(swarm.manager)) for machine in swarm.managers)
    assert {task["ID"] for task in swarm.running("web")} == tasks
    assert set(docker(follower)("node", "ls", "--format", "{{.TLSStatus}}").split("\n")) == {"Ready"}
    for config in swarm.manager.api.get("/configs"):
        swarm.manager.api.delete(f"/configs/{config['ID']}")


def test_every_manager_is_locked_with_the_same_key(swarm: Managers, docker: Docker) -> None:
    swarm.create_service("web", 4)
    shown = docker(swarm.followers()[0])("swarm", "update", "--autolock=true")
    key = re.search(r"^    (SWMKEY-1-\S{43})$", shown, re.M)[1]  # type: ignore[index]

    def keys_are(text: str) -> bool:
        files = [machine.data_root / "swarm" / "certificates" / "swarm-node.key" for machine in swarm.managers]
        return all((text in file.read_text()) for file in files)

    wait_until(lambda: keys_are("ENCRYPTED PRIVATE KEY"), "all keys are encrypted")
    follower = swarm.followers()[0]
    running = set(follower.task_containers())
    follower.kill()
    follower.start()
    assert follower.state() == "locked"
    assert set(follower.task_containers()) == running
    assert docker(follower).refused("node", "ls").startswith("Error response from daemon: Swarm is encrypted")
    # The others go on, and say which one is missing.
    other = next(machine for machine in swarm.managers if machine is not follower)
    hostname = follower.network.hostname
    wait_until(lambda: swarm.standing(other)[hostname] == "unreachable", "it is missed", timeout=20)
    assert ask(other, "POST", "/configs/create", {"Name": "while-locked", "Data": "eA=="})
    # Rotated while it was away: the key of now opens it, once it has heard of it the new one does.
    newer = docker(other)("swarm", "unlock-key", "--rotate", "-q")
    assert newer != key
    docker(follower)("swarm", "unlock", stdin=key)
    wait_until(swarm.all_reachable, "it is back", timeout=30)
    assert "while-locked" in {config["Spec"]["Name"] for config in follower.api.get("/configs")}
    wait_until(lambda: len(swarm.running("web")) == 4, "the service is whole", timeout=20)

    # A manager is opened by the key that it has heard of last, and a busy one hears later.
    wait_until(lambda: all(data_keys(machine, newer) for machine in swarm.managers), "all are locked with the new key")
    # All at once: the swarm stays locked until a quorum is unlocked.
    wait_until(lambda: set(swarm.states().values()) == {"ready"}, "all nodes are back", timeout=30)
    containers = {machine.network.hostname: set(machine.task_containers()) for machine in swarm.machines}
    for machine in swarm.managers:
        machine.kill()
    for machine in swarm.managers:
        machine.start()
        assert machine.state() == "locked"
    assert {machine.network.hostname: set(machine.task_containers()) for machine in swarm.machines} == containers
    for machine in swarm.managers:
        docker(machine)("swarm", "unlock", stdin=newer)
    wait_until(swarm.all_reachable, "the swarm is back", timeout=30)
    wait_until(lambda: set(swarm.states().values()) == {"ready"}, "all nodes are back", timeout=30)
    assert {machine.network.hostname: set(machine.task_containers()) for machine in swarm.machines} == containers

    docker(swarm.manager)("swarm", "update", "--autolock=false")
    wait_until(lambda: keys_are("BEGIN PRIVATE KEY"), "all keys are open")
    for config in swarm.manager.api.get("/configs"):
        swarm.manager.api.delete(f"/configs/{config['ID']}")


def test_a_locked_manager_that_becomes_a_worker_is_not_locked(swarm: Managers, docker: Docker) -> None:
    follower = swarm.followers()[0]
    former = own(follower)
    shown = docker(swarm.leader())("swarm", "update", "--autolock=true")
    unlock_key = re.search(r"^    (SWMKEY-1-\S{43})$", shown, re.M)[1]  # type: ignore[index]
    key_file = follower.data_root / "swarm" / "certificates" / "swarm-node.key"
    wait_until(lambda: "ENCRYPTED" in key_file.read_text(), "its key is encrypted")
    was = own_of_locked(follower)
    leader = swarm.leader()
    node_id = follower.swarm()["NodeID"]

    docker(leader)("node", "demote", node_id)

    wait_until(lambda: "ENCRYPTED" not in key_file.read_text(), "a worker's key is not encrypted", timeout=30)
    wait_until(lambda: not (follower.data_root / "swarm" / "state.key").exists(), "it has no keys of the state")
    follower.stop()
    follower.start()
    wait_until(lambda: follower.state() == "active", "it works", timeout=20)
    assert was
    for machine in swarm.managers:
        if machine is not follower:
            wait_until(
                lambda machine=machine: shuts_out(machine, former),  # type: ignore[misc]
                "the certificate that it had as a manager is revoked",
            )
            assert lets_in(machine, member_identity(machine))

    # Managers share the data key: it is renewed when one of them is left, and those that come back get the new one.
    lying_open = data_keys(leader, unlock_key)
    assert lying_open
    last = next(machine for machine in swarm.managers if machine not in (leader, follower))
    last_id = last.swarm()["NodeID"]
    docker(leader)("node", "demote", last_id)
    wait_until(
        lambda: (now := data_keys(leader, unlock_key)) and not lying_open & now,
        "the last manager has a fresh data key",
        timeout=60,
    )
    docker(leader)("node", "promote", node_id, last_id)
    wait_until(swarm.all_reachable, "they manage again", timeout=60)
    renewed = data_keys(leader, unlock_key)
    assert not renewed & lying_open
    wait_until(lambda: all(data_keys(machine, unlock_key) == renewed for machine in swarm.managers), "all share it")
    docker(leader)("swarm", "update", "--autolock=false")


def data_keys(machine: Machine, unlock_key: str) -> set[bytes]:
    """What a locked manager's state is encrypted with; nothing while that cannot be read."""
    keys = StateKeys(machine.data_root / "swarm")
    try:
        keys.unlock(unlock_key)
    except EnxameError:
        return set()
    return set(keys.ring.keys.values())


def own_of_locked(machine: Machine) -> bool:
    """Nobody reads the key of a locked manager without its passphrase."""
    with pytest.raises(Exception, match="cannot read this node's certificate"):
        certificate_files.read(machine.data_root / "swarm")
    return True


def member_identity(machine: Machine) -> Identity:
    """What a manager's member uses: in memory, while its daemon runs."""
    files = machine.exec_root / "swarm"
    root = (files / "roots.crt").read_text()
    return Identity((files / "manager.crt").read_text(), (files / "manager.key").read_text(), root)
