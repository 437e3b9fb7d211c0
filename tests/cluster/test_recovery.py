"""The manager is gone: backups, copies and survivors bring the swarm back, and the workers with it."""

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
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

    def lead_by(self, machine: Machine) -> None:
        """From now on the cluster's questions go to this machine."""
        machines = self.cluster.machines
        machines.remove(machine)
        machines.insert(0, machine)


@pytest.fixture(scope="module")
def lab(sample_archive: bytes) -> Iterator[Recovery]:
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces, containers")
    with tempfile.TemporaryDirectory(prefix="enxr-", dir="/var/tmp") as directory:
        made = Recovery(Path(directory), sample_archive)
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
    worker = swarm.workers[0]
    assert "already part of a swarm" in swarm.docker(worker).refused(
        *command[1:-1], f"{swarm.manager.network.host_address}:{MANAGER_PORT}"
    )
    worker.stop()
    worker.start()
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "the worker is back where it was")
    assert {n["Addr"] for n in worker.swarm()["RemoteManagers"]} == {address}
    cluster.create_service("after", 3)
