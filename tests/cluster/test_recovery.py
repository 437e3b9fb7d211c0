"""The manager is gone: backups, copies and survivors bring the swarm back, and the workers with it."""

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from enxame.testing.cluster import MANAGER_PORT, Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import EngineClient
from tests.clients.command import Command, docker_programs

ENXAME = str(Path(sys.executable).with_name("enxame"))


class Recovery:
    """A manager and two workers, and a spare machine in no swarm."""

    def __init__(self, directory: Path, image: bytes) -> None:
        self.cluster = Cluster(directory, image, 4)
        self.manager, *self.workers, self.spare = self.cluster.machines
        self.first_address: dict[str, str] = {}
        self.home = directory / "home"
        self.home.mkdir()

    def enxame(self, machine: Machine) -> Command:
        return Command(ENXAME, machine, self.home)

    def docker(self, machine: Machine) -> Command:
        return Command(docker_programs()[0], machine, self.home)

    def found(self) -> None:
        """A fresh swarm: the manager leads, the workers are in, the spare machine is not."""
        for machine in self.cluster.machines:
            machine.network.heal()
            if not machine.runs():
                machine.start()
            if machine.state() != "inactive":
                machine.api.post("/swarm/leave", force="1")
        self.manager.api.post("/swarm/init", {"ListenAddr": f"0.0.0.0:{MANAGER_PORT}"})
        for worker in self.workers:
            self.cluster.join(worker)

    def renumber(self, machine: Machine) -> None:
        """Give the machine another address, or its first one back."""
        network = machine.network
        first = self.first_address.setdefault(machine.network.hostname, network.host_address)
        network.host.ip("address", "flush", "dev", "eth0", "scope", "global")
        other = f"{first}{first[-1]}"
        network.host_address = other if network.host_address == first else first
        network.host.ip("address", "add", f"{network.host_address}/24", "dev", "eth0")

    def lead_by(self, machine: Machine) -> None:
        """From now on the cluster's questions go to this machine."""
        machines = self.cluster.machines
        machines.remove(machine)
        machines.insert(0, machine)


@pytest.fixture(scope="module")
def lab(sample_archive: bytes, short_directory: Callable[[], Path]) -> Iterator[Recovery]:
    made = Recovery(short_directory(), sample_archive)
    with made.cluster:
        yield made


@pytest.fixture
def swarm(lab: Recovery) -> Iterator[Recovery]:
    before = list(lab.cluster.machines)
    lab.found()
    yield lab
    lab.cluster.machines[:] = before


def containers(machines: list[Machine]) -> dict[str, tuple[int, str]]:
    """All tasks' containers there, with what changes when one is started again."""
    found = {}
    for machine in machines:
        for container in machine.task_containers():
            state = machine.api.get(f"/containers/{container}/json")["State"]
            found[container] = (state["Pid"], state["StartedAt"])
    return found


def reached(machine: Machine) -> str:
    """Where the machine's manager is for others."""
    return f"{machine.network.host_address}:{MANAGER_PORT}"


class Load:
    """Services that come and change all the time."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.made = 0

    def _run(self) -> None:
        api = EngineClient(str(self._machine.socket))
        while not self._stop.is_set():
            body = {"Name": f"load-{self.made}", "TaskTemplate": {"ContainerSpec": {"Image": "none"}}}
            api.post("/services/create", {**body, "Mode": {"Replicated": {"Replicas": 0}}})
            self.made += 1
        api.close()

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.made > 5, "there is load")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)


def test_a_backup_made_under_load_brings_the_swarm_back_at_another_address(swarm: Recovery, tmp_path: Path) -> None:
    cluster, spare = swarm.cluster, swarm.spare
    secret = swarm.manager.api.post("/secrets/create", {"Name": "password", "Data": "c3dvcmRmaXNo"})["ID"]
    swarm.manager.api.post("/configs/create", {"Name": "settings", "Data": "YQ=="})
    swarm.manager.api.post("/networks/create", {"Name": "front", "Driver": "overlay"})
    cluster.create_service("web", 6)
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse\n")
    kept = tmp_path / "swarm.backup"
    swarm.docker(swarm.manager)("swarm", "update", "--autolock=true")
    with Load(swarm.manager) as load:
        made_before = load.made
        said = swarm.enxame(swarm.manager)("swarm", "backup", "--passphrase-file", str(passphrase), str(kept))
        assert "revision" in said
    assert load.made > made_before, "the load did not wait"
    assert kept.stat().st_mode & 0o777 == 0o600
    told = swarm.enxame(spare)("swarm", "backup", "--check", str(kept))
    assert "is whole" in told
    assert "3 nodes" in told
    assert "with a passphrase (give it, too" in told
    ids = {node["Description"]["Hostname"]: node["ID"] for node in cluster.nodes().values()}
    on_workers = containers(swarm.workers)
    assert len(on_workers) == 4
    unlock_key = swarm.manager.api.get("/swarm/unlockkey")["UnlockKey"]

    swarm.manager.kill()
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    restore = swarm.enxame(spare)
    assert "wrong passphrase" in restore.refused("swarm", "restore", "--passphrase-file", str(wrong), str(kept))
    said = restore("swarm", "restore", "--passphrase-file", str(passphrase), str(kept))
    address = f"{spare.network.host_address}:{MANAGER_PORT}"
    assert f"This node ({ids['node1']}) is its manager, at {address}" in said
    command = next(line.split() for line in said.splitlines() if "swarm join --token" in line)
    assert "already part of a swarm" in restore.refused("swarm", "restore", str(kept), stdin="correct horse\n")
    swarm.lead_by(spare)

    # The stock command does, too.
    for worker in swarm.workers:
        assert swarm.docker(worker)(*command[1:]) == "This node joined a swarm as a worker."
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are back")
    assert {node["Description"]["Hostname"]: node["ID"] for node in cluster.nodes().values()} == {
        "node4": ids["node1"],
        "node2": ids["node2"],
        "node3": ids["node3"],
    }
    wait_until(lambda: len(cluster.running("web")) == 6, "all tasks run")
    wait_until(lambda: len(spare.task_containers()) == 2, "those of the lost manager run on the new one")
    assert containers(swarm.workers) == on_workers, "the workers' tasks went on"
    assert [s["ID"] for s in spare.api.get("/secrets")] == [secret]
    assert {c["Spec"]["Name"] for c in spare.api.get("/configs")} == {"settings"}
    assert "front" in {n["Name"] for n in spare.api.get("/networks")}
    services = {s["Spec"]["Name"] for s in spare.api.get("/services")}
    assert {f"load-{n}" for n in range(made_before)} <= services, "all that was acknowledged before is there"

    # The old manager comes back: nobody follows it.
    swarm.manager.start()
    swarm.manager.api.post("/swarm/unlock", {"UnlockKey": unlock_key})
    assert swarm.manager.swarm()["ControlAvailable"]
    wait_until(
        lambda: any("was recovered on another machine" in text for text in swarm.manager.api.get("/info")["Warnings"]),
        "the old manager says that the swarm goes on elsewhere",
    )
    worker = swarm.workers[0]
    assert "already part of a swarm" in swarm.docker(worker).refused(
        *command[1:-1], f"{swarm.manager.network.host_address}:{MANAGER_PORT}"
    )
    worker.stop()
    worker.start()
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "the worker is back where it was")
    assert {n["Addr"] for n in worker.swarm()["RemoteManagers"]} == {address}
    cluster.create_service("after", 3)
    # What was locked is locked.
    spare.stop()
    spare.start()
    assert spare.state() == "locked"
    assert "needs to be unlocked" in restore.refused("swarm", "backup", str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    spare.api.post("/swarm/unlock", {"UnlockKey": unlock_key})
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are back")


def test_a_manager_whose_machine_got_another_address_comes_back(swarm: Recovery) -> None:
    cluster, manager = swarm.cluster, swarm.manager
    cluster.create_service("web", 3)
    before = containers(cluster.machines[:3])
    node_id = manager.swarm()["NodeID"]
    manager.stop()
    swarm.renumber(manager)
    try:
        manager.start()
        address = reached(manager)
        assert manager.swarm()["NodeAddr"] == manager.network.host_address
        assert manager.swarm()["RemoteManagers"] == [{"NodeID": node_id, "Addr": address}]
        assert swarm.docker(manager)("node", "inspect", "self", "--format", "{{.ManagerStatus.Addr}}") == address
        token = cluster.token()
        for worker in swarm.workers:
            swarm.enxame(worker)("swarm", "join", "--token", token, address)
        wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are back")
        assert len(cluster.running("web")) == 3
        assert containers(cluster.machines[:3]) == before
        # Back again, and by the user's word this time.
        swarm.renumber(manager)
        said = swarm.docker(manager)("swarm", "init", "--force-new-cluster", "--advertise-addr", "eth0")
        assert reached(manager) in said
        assert "already part of a swarm" in swarm.docker(manager).refused("swarm", "init")
        for worker in swarm.workers:
            swarm.enxame(worker)("swarm", "join", "--token", token, reached(manager))
        wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are back")
        assert containers(cluster.machines[:3]) == before
    finally:
        if manager.network.host_address != swarm.first_address[manager.network.hostname]:
            swarm.renumber(manager)


def test_a_plain_copy_of_the_state_restores_on_another_machine(swarm: Recovery) -> None:
    cluster, manager, spare = swarm.cluster, swarm.manager, swarm.spare
    cluster.create_service("web", 6)
    token = cluster.token()
    node_id = manager.swarm()["NodeID"]
    before = containers(swarm.workers)
    manager.stop()
    spare.stop()
    shutil.rmtree(spare.data_root / "swarm", ignore_errors=True)
    shutil.copytree(manager.data_root / "swarm", spare.data_root / "swarm")
    spare.start()
    swarm.lead_by(spare)
    assert spare.swarm()["NodeID"] == node_id
    address = reached(spare)
    assert spare.swarm()["RemoteManagers"] == [{"NodeID": node_id, "Addr": address}]
    for worker in swarm.workers:
        swarm.enxame(worker)("swarm", "join", "--token", token, address)
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are back")
    wait_until(lambda: len(spare.task_containers()) == 2, "the manager's own tasks run here")
    wait_until(lambda: len(cluster.running("web")) == 6, "all tasks run")
    assert containers(swarm.workers) == before


def test_backups_are_made_by_themselves_and_the_newest_restores_in_the_same_place(
    swarm: Recovery, tmp_path: Path
) -> None:
    cluster, manager = swarm.cluster, swarm.manager
    cluster.create_service("web", 6)
    enxame = swarm.enxame(manager)
    key, directory = tmp_path / "key", tmp_path / "backups"
    key.write_bytes(os.urandom(32))
    schedule = ("--backup-every", "1s", "--backup-keep", "2", "--backup-key-file", str(key))
    assert enxame("swarm", "update", "--backup-dir", str(directory), *schedule) == "Swarm updated."
    first = wait_until(lambda: sorted(directory.glob("swarm-*")), "a backup is made")[0]
    assert "with a key file, which is the right one" in enxame(
        "swarm", "backup", "--check", "--key-file", str(key), str(first)
    )
    swarm.docker(manager)("swarm", "update", "--task-history-limit", "3")
    wait_until(lambda: not first.exists(), "the oldest is gone")
    assert len(list(directory.glob("swarm-*"))) <= 3
    assert "Kept:      2" in enxame("swarm", "backup", "--status")
    # What stands in the way is told.
    enxame("swarm", "update", "--backup-dir", str(tmp_path / "other"))
    wait_until(lambda: list((tmp_path / "other").glob("swarm-*")), "the other directory is used")
    enxame("swarm", "update", "--backup-every", "2s")
    shutil.rmtree(tmp_path / "other")
    (tmp_path / "other").touch()
    told = wait_until(lambda: [w for w in manager.api.get("/info")["Warnings"] if "backup" in w], "the failure is told")
    assert "No backup of the swarm could be made" in told[0]
    assert "File exists" in enxame("swarm", "backup", "--status")
    enxame("swarm", "update", "--backup-dir", "")
    assert "makes no backups by itself" in enxame("swarm", "backup", "--status")

    before = containers(swarm.workers)
    newest = max(directory.glob("swarm-*"))
    manager.kill()
    shutil.rmtree(manager.data_root / "swarm")
    manager.start()
    assert manager.state() == "inactive"
    wait_until(lambda: not manager.task_containers(), "what belonged to no swarm is gone")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(newest.read_bytes()[:-40])
    restore = ("swarm", "restore", "--key-file", str(key))
    assert "cut off" in enxame.refused(*restore, str(damaged))
    assert "its former address: the workers come back by themselves" in enxame(*restore, str(newest))
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are back")
    wait_until(lambda: len(cluster.running("web")) == 6 and len(manager.task_containers()) == 2, "all tasks run")
    assert containers(swarm.workers) == before
    # Nothing that anybody knew before is taken for what is there now.
    versions = [service["Version"]["Index"] for service in manager.api.get("/services")]
    assert all(version < 10_000_000 for version in versions)
    cluster.create_service("after", 1)
    assert max(service["Version"]["Index"] for service in manager.api.get("/services")) > 10_000_000


def test_one_of_three_managers_goes_on_alone_and_the_others_come_back_to_it(swarm: Recovery) -> None:
    cluster, manager, spare = swarm.cluster, swarm.manager, swarm.spare
    cluster.join(spare)
    others = swarm.workers
    docker = swarm.docker(manager)
    docker("node", "promote", *(other.swarm()["NodeID"] for other in others))

    def standing() -> list[str]:
        return sorted(docker("node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}").splitlines())

    whole = ["node1 Ready Leader", "node2 Ready Reachable", "node3 Ready Reachable", "node4 Ready "]
    wait_until(lambda: sorted(line.replace("Leader", "Reachable") for line in standing())[1:3] == whole[1:3], "three")
    cluster.create_service("web", 8)
    services = {service["ID"] for service in manager.api.get("/services")}
    assert len(manager.api.get("/info")["Swarm"]["RemoteManagers"]) == 3
    before = containers([manager, spare])
    for other in others:
        other.kill()
    wait_until(lambda: "not have a leader" in docker.result("service", "ls").err, "nobody leads", timeout=40)
    assert len(containers([spare])) == 2, "tasks go on"

    docker("swarm", "init", "--force-new-cluster", "--advertise-addr", manager.network.host_address)
    assert {service["ID"] for service in manager.api.get("/services")} == services
    wait_until(
        lambda: standing() == ["node1 Ready Leader", "node2 Down ", "node3 Down ", "node4 Ready "],
        "the survivor leads alone, and the worker is back by itself",
    )
    wait_until(lambda: len(cluster.running("web")) == 8, "lost tasks run elsewhere")
    assert before.items() <= containers([manager, spare]).items(), "those that ran go on"
    cluster.create_service("after", 1)

    # Both at once: together they would be a majority of what was.
    for other in others:
        other.start()
    wait_until(lambda: standing() == whole, "they are managers again", timeout=60)
    assert len(manager.api.get("/info")["Swarm"]["RemoteManagers"]) == 3
    assert {service["Spec"]["Name"] for service in others[0].api.get("/services")} == {"web", "after"}
    wait_until(lambda: sum(len(m.task_containers()) for m in cluster.machines) == 9, "nothing runs twice")

    # One of them is at another address when it starts again: it tells the others.
    moved = others[0]
    node_id = moved.swarm()["NodeID"]
    moved.stop()
    swarm.renumber(moved)
    moved.start()
    told = ("node", "inspect", node_id, "--format", "{{.ManagerStatus.Addr}}")
    wait_until(lambda: docker.result(*told).out.strip() == reached(moved), "the others know its address", timeout=60)
    wait_until(lambda: standing() == whole, "it is a manager again", timeout=60)
    wait_until(lambda: moved.swarm()["LocalNodeState"] == "active", "it has the state")
    assert "after" in {service["Spec"]["Name"] for service in moved.api.get("/services")}
