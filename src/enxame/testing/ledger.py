"""What clients of a swarm were told, and whether it was true: kept while faults strike, checked all the time."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Self

from enxame.api.repeating import IN_DOUBT
from enxame.testing.cluster import Machine
from enxame.testing.engine_client import ApiError, EngineClient
from enxame.testing.managers import PATIENCE

DATA = "ZGF0YQ=="


class Broken(AssertionError):
    """A promise was broken."""


class _Client:
    """One after the other, through any of the managers."""

    def __init__(self, managers: Sequence[Machine], seed: int) -> None:
        self._clients = [EngineClient(str(machine.socket), timeout=PATIENCE) for machine in managers]
        self._random = random.Random(seed)

    def pick(self) -> EngineClient:
        return self._random.choice(self._clients)

    def close(self) -> None:
        for client in self._clients:
            client.close()


class Ledger:
    """Writes and reads through ``managers`` in threads of its own until :meth:`stop`, which raises Broken.

    What is checked: an acknowledged write is found, through every manager; one that was refused is not there; what a
    client has seen, it never sees an older state of; and never do two tasks of one slot run.
    """

    def __init__(self, managers: Sequence[Machine], *, writers: int = 2) -> None:
        self._managers = managers
        self._stop = threading.Event()
        self._problems: list[str] = []
        self.acknowledged: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.in_doubt: dict[str, str] = {}
        #: When each acknowledgement came, and how long each had taken: seconds (monotonic).
        self.times: list[tuple[float, float]] = []
        self._run = f"{time.time_ns():x}"
        jobs: list[Callable[[_Client, int], None]] = [self._create, self._count, self._watch]
        works = [jobs[0]] * writers + jobs[1:]
        self._threads = [
            threading.Thread(target=self._repeat, args=(work, number), daemon=True) for number, work in enumerate(works)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE * 2)

    def longest_gap(self) -> float:
        """Longest time without any acknowledgement: seconds."""
        moments = sorted(moment for moment, _ in self.times)
        return max((after - before for before, after in itertools.pairwise(moments)), default=0.0)

    def check(self) -> None:
        """Raises Broken with everything that was wrong. To be called when the swarm is whole again."""
        if any(thread.is_alive() for thread in self._threads):
            raise Broken("a client still waits for its answer")
        for machine in self._managers:
            found = {config["Spec"]["Name"]: config["ID"] for config in machine.api.get("/configs")}
            who = machine.network.hostname
            for name, object_id in self.acknowledged.items():
                if found.get(name) != object_id:
                    self._problems.append(f"{name} was acknowledged as {object_id}; {who} has {found.get(name)}")
            for name, why in self.refused.items():
                if name in found:
                    self._problems.append(f"{name} is there, although the client was told: {why}")
        if self._problems:
            raise Broken("\n".join(self._problems[:20]))

    def _repeat(self, work: Callable[[_Client, int], None], number: int) -> None:
        client = _Client(self._managers, number)
        try:
            work(client, number)
        except Exception as error:  # noqa: BLE001 - the test's thread tells it
            self._problems.append(f"{work.__name__}: {type(error).__name__}: {error}")
        finally:
            client.close()

    def _create(self, client: _Client, number: int) -> None:
        turn = 0
        while not self._stop.is_set():
            turn += 1
            name = f"l{self._run}-{number}-{turn}"
            began = time.monotonic()
            try:
                made = client.pick().post("/configs/create", {"Name": name, "Data": DATA})
                self.acknowledged[name] = made["ID"]
                self.times.append((time.monotonic(), time.monotonic() - began))
            except ApiError as error:
                (self.in_doubt if error.message == IN_DOUBT else self.refused)[name] = error.message
            except OSError as error:
                # The manager that was asked has gone.
                self.in_doubt[name] = str(error)
                time.sleep(0.05)
            time.sleep(0.02)

    def _count(self, client: _Client, number: int) -> None:
        """A counter in an object's labels: nobody else writes it, so it is never below what was acknowledged."""
        name = f"l{self._run}-{number}"
        while not self._stop.is_set():
            try:
                client.pick().post("/configs/create", {"Name": name, "Data": DATA, "Labels": {"n": "0"}})
            except ApiError as error:
                if error.status != 409:
                    continue
            except OSError:
                time.sleep(0.05)
                continue
            break
        least = most = version = 0
        while not self._stop.is_set():
            try:
                config = client.pick().get(f"/configs/{name}")
                seen = int(config["Spec"]["Labels"]["n"])
                if not least <= seen <= most:
                    self._problems.append(f"a client that had counted from {least} to {most} read {seen}")
                if config["Version"]["Index"] < version:
                    self._problems.append(f"version {config['Version']['Index']} of {name} was seen after {version}")
                least, version = seen, config["Version"]["Index"]
                most = seen + 1
                spec = {**config["Spec"], "Labels": {"n": str(most)}}
                client.pick().post(f"/configs/{name}/update", spec, version=str(version))
                least = most
            except (ApiError, OSError):
                time.sleep(0.02)
            time.sleep(0.02)

    def _watch(self, client: _Client, _number: int) -> None:
        versions: dict[str, int] = {}
        while not self._stop.is_set():
            try:
                asked = client.pick()
                tasks: list[dict[str, Any]] = asked.get("/tasks")
                states = {node["ID"]: node["Status"]["State"] for node in asked.get("/nodes")}
            except (ApiError, OSError):
                time.sleep(0.05)
                continue
            slots: dict[tuple[str, int], list[str]] = defaultdict(list)
            for task in tasks:
                before, version = versions.get(task["ID"], 0), task["Version"]["Index"]
                if version < before:
                    self._problems.append(f"version {version} of task {task['ID']} was seen after {before}")
                versions[task["ID"]] = version
                if (
                    (task["DesiredState"], task["Status"]["State"]) == ("running", "running")
                    and task.get("Slot")
                    and states.get(task.get("NodeID", "")) == "ready"
                ):
                    slots[task["ServiceID"], task["Slot"]].append(task["ID"])
            for slot, ids in slots.items():
                if len(ids) > 1:
                    self._problems.append(f"tasks {ids} of slot {slot} run at once")
            time.sleep(0.05)
