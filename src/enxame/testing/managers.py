"""A swarm with several managers on real daemons, and the faults that strike them."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from enxame.testing.cluster import HEALED_WITHIN, MANAGER_PORT, Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError, EngineClient

#: Longest wait for one answer: seconds. Requests wait for an election, and again when the leader is lost meanwhile.
PATIENCE = 30.0


class Managers(Cluster):
    """The first ``managers`` machines manage, the others work."""

    def __init__(self, directory: Path, image: bytes, managers: int = 3, workers: int = 1) -> None:
        self._count = managers
        self._stopped: set[int] = set()
        super().__init__(directory, image, managers + workers)

    @property
    def managers(self) -> Sequence[Machine]:
        """All managers, the leader among them."""
        return self.machines[: self._count]

    @property
    def workers(self) -> Sequence[Machine]:
        """The others."""
        return self.machines[self._count :]

    def leader(self, asked: Machine | None = None) -> Machine:
        """Who leads, as ``asked`` (else the first machine that runs) sees it; waits for one."""
        hostname = wait_until(lambda: self._leading(asked), "a leader is known", timeout=20)
        return next(machine for machine in self.machines if machine.network.hostname == hostname)

    def _leading(self, asked: Machine | None) -> str:
        for machine in [asked] if asked is not None else [one for one in self.managers if one.runs()]:
            with suppress(ApiError, OSError):
                for node in ask(machine, "GET", "/nodes"):
                    if (node.get("ManagerStatus") or {}).get("Leader"):
                        return str(node["Description"]["Hostname"])
        return ""

    def followers(self) -> list[Machine]:
        """Managers that do not lead."""
        return self.followers_of(self.leader())

    def followers_of(self, leader: Machine) -> list[Machine]:
        """All managers but this one."""
        return [machine for machine in self.managers if machine is not leader]

    def standing(self, asked: Machine | None = None) -> dict[str, str]:
        """Host name of each manager → ``leader``, or its reachability; as seen by ``asked``."""
        return {
            node["Description"]["Hostname"]: "leader"
            if node["ManagerStatus"].get("Leader")
            else node["ManagerStatus"]["Reachability"]
            for node in ask(asked or self.manager, "GET", "/nodes")
            if node.get("ManagerStatus")
        }

    def freeze(self, machine: Machine, *, whole: bool) -> None:
        """Stop the daemon's process; ``whole``: its helpers, too, as when a virtual machine is paused."""
        pids = machine.daemon_pids() if whole else [machine.pid]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        self._stopped |= set(pids)

    def thaw(self) -> None:
        """Let everything that was stopped go on."""
        for pid in self._stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._stopped.clear()

    def heal(self) -> None:
        """Everything as at first: links up, daemons running, every machine in its role, no services."""
        self.heal_links()
        for machine in self.machines:
            if not machine.runs():
                machine.start()
        inside = [machine for machine in self.managers if machine.state() != "inactive"]
        if not inside:
            self.manager.api.post("/swarm/init", {"ListenAddr": f"0.0.0.0:{MANAGER_PORT}"})
            inside = [self.manager]
        for machine in inside:
            wait_until(lambda machine=machine: machine.state() == "active", "a manager is up", timeout=HEALED_WITHIN)  # type: ignore[misc]
        addresses = [f"{machine.network.host_address}:{MANAGER_PORT}" for machine in inside]
        for machine in self.machines:
            if machine.state() == "inactive":
                role = "Manager" if machine in self.managers else "Worker"
                token = inside[0].api.get("/swarm")["JoinTokens"][role]
                self.join(machine, JoinToken=token, RemoteAddrs=addresses)
        for service in self.manager.api.get("/services"):
            self.manager.api.delete(f"/services/{service['ID']}")
        ours = {machine.swarm()["NodeID"] for machine in self.machines}
        for node in self.nodes().values():
            if node["ID"] not in ours and node["Spec"]["Role"] == "worker":
                self.manager.api.delete(f"/nodes/{node['ID']}", force="1")
        wait_until(lambda: set(self.states().values()) == {"ready"}, "all nodes are ready", timeout=HEALED_WITHIN)
        wait_until(self.all_reachable, "all managers are reachable", timeout=HEALED_WITHIN)
        wait_until(self._idle, "no task is left", timeout=HEALED_WITHIN)

    def rebuild(self) -> None:
        """Every machine as new, also those that are stopped."""
        self.thaw()
        super().rebuild()

    def disband(self) -> None:
        """All machines run, none is in a swarm."""
        self.heal_links()
        for machine in self.machines:
            if not machine.runs():
                machine.start()
            if machine.state() != "inactive":
                machine.api.post("/swarm/leave", force="1")

    def heal_links(self) -> None:
        """Nothing is stopped and no cable is pulled any more."""
        self.thaw()
        for machine in self.machines:
            machine.network.heal()

    def all_reachable(self) -> bool:
        """Whether one manager leads and reaches all others."""
        try:
            standing = self.standing()
        except (ApiError, OSError):
            return False
        return sorted(standing.values()) == ["leader", *["reachable"] * (self._count - 1)]

    def close(self) -> None:
        """End and remove everything, also what is stopped."""
        self.thaw()
        super().close()


def ask(machine: Machine, method: str, path: str, body: object = None, **query: object) -> Any:
    """One request on a connection of its own: for machines that may hang."""
    client = EngineClient(str(machine.socket), timeout=PATIENCE)
    try:
        return client.call(method, path, body, **query)
    finally:
        client.close()
