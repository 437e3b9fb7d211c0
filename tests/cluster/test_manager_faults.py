"""Managers that die, hang, are cut off or run out of disk, while clients write through all of them.

A :class:`Ledger` checks meanwhile that no acknowledged write is lost, no refused one is made, nobody sees an older
state than before, and no two tasks of one slot run.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from enxame.api.repeating import IN_DOUBT
from enxame.testing.cluster import Machine, change_node
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError
from enxame.testing.ledger import Ledger
from enxame.testing.managers import Managers, ask
from enxame.testing.promises import allowed

#: Promise: seconds from the loss of the leader to the next write that is acknowledged, on two busy cores.
LEADER_WITHIN = 3.0
#: The same when only the daemon hangs: its sign of life must run out first.
HANGING_LEADER_WITHIN = 6.0
NO_LEADER = (
    "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are "
    "online. Make sure more than half of the managers are online."
)


@contextmanager
def writing(several: Managers, *, longest_gap: float) -> Iterator[Ledger]:
    """Clients write and read through all managers; in the end everything was as they were told."""
    with Ledger(several.managers) as ledger:
        more_writes(ledger)
        yield ledger
        more_writes(ledger)
    several.heal_links()
    wait_until(several.all_reachable, "all managers are back", timeout=30)
    ledger.check()
    assert ledger.longest_gap() <= allowed(longest_gap)


def more_writes(ledger: Ledger) -> None:
    """Waits until clients have written."""
    acknowledged = len(ledger.acknowledged)
    wait_until(lambda: len(ledger.acknowledged) > acknowledged + 5, "writes are acknowledged", timeout=20)


def another_leads(several: Managers, asked: Machine, former: Machine) -> None:
    """Waits until a manager says so: one that has just begun to lead may not have written it down yet."""
    wait_until(lambda: several.leader(asked=asked) is not former, "another manager leads")


def pids(machine: Machine) -> dict[str, tuple[int, str]]:
    """Its tasks' containers, with what changes when one is started again."""
    states = {container: machine.api.get(f"/containers/{container}/json") for container in machine.task_containers()}
    return {name: (state["State"]["Pid"], state["State"]["StartedAt"]) for name, state in states.items()}


def told(error: BaseException | None) -> tuple[int, str]:
    """What a client was told instead of an answer."""
    assert isinstance(error, ApiError), repr(error)
    return error.status, error.message


def test_a_leader_that_is_killed_is_replaced_and_its_tasks_go_on(several: Managers) -> None:
    leader = several.leader()
    several.create_service("web", 8)
    before = pids(leader)
    with writing(several, longest_gap=LEADER_WITHIN):
        leader.kill()
        another_leads(several, several.followers_of(leader)[0], leader)
        assert before
        assert all(Path(f"/proc/{pid}").exists() for pid, _ in before.values()), "its containers need no daemon"
        leader.start()
    kept = pids(leader)
    assert {name: before[name] for name in kept if name in before} == {n: kept[n] for n in kept if n in before}
    wait_until(lambda: len(several.running("web")) == 8, "everything runs")


def test_a_follower_that_is_killed_is_not_missed_by_those_who_write(several: Managers) -> None:
    follower = several.followers()[0]
    leader = several.leader()
    with writing(several, longest_gap=LEADER_WITHIN):
        follower.kill()
        wait_until(lambda: several.standing(leader)[follower.network.hostname] == "unreachable", "it is missed")
        follower.start()


@pytest.mark.parametrize("whole", [False, True], ids=["the daemon hangs", "the machine is paused"])
def test_a_leader_that_hangs_does_nothing_when_it_goes_on(several: Managers, whole: bool) -> None:
    leader = several.leader()
    others = several.followers_of(leader)
    several.create_service("web", 4)
    with writing(several, longest_gap=20.0):  # a client of the hanging manager waits for it
        several.freeze(leader, whole=whole)
        began = time.monotonic()
        another_leads(several, others[0], leader)
        ask(others[1], "POST", "/configs/create", {"Name": f"after-{whole}", "Data": "YQ=="})
        assert time.monotonic() - began <= allowed(LEADER_WITHIN if whole else HANGING_LEADER_WITHIN)
        time.sleep(3)  # that it hangs on while the others go on is the fault itself: nothing comes true by it
        several.thaw()
    ask(leader, "DELETE", f"/configs/after-{whole}")
    assert "error" not in {machine.state() for machine in several.managers}


def test_leaders_that_are_demoted_one_after_the_other_leave_no_gap(several: Managers) -> None:
    with Ledger(several.managers[2:]) as ledger:  # clients of a manager that stays
        more_writes(ledger)
        for machine in several.managers[:2]:
            change_role(several, machine, "worker")
            wait_until(lambda machine=machine: not machine.swarm()["ControlAvailable"], "it is a worker")
            change_role(several, machine, "manager")
            wait_until(several.all_reachable, "it is a manager again", timeout=30)
    ledger.check()
    assert ledger.longest_gap() <= allowed(LEADER_WITHIN)


def change_role(several: Managers, machine: Machine, role: str) -> None:
    """Promote or demote, through a manager that stays."""
    node_id, through = machine.swarm()["NodeID"], several.managers[2].api
    wait_until(lambda: change_node(through, node_id, Role=role), f"{machine.network.hostname} is made a {role}")


def test_a_leader_that_is_cut_off_refuses_and_says_why_while_the_others_go_on(several: Managers) -> None:
    leader = several.leader()
    others = several.followers_of(leader)
    several.create_service("web", 4)
    with Ledger(others) as ledger:
        more_writes(ledger)
        leader.network.cut()
        with ThreadPoolExecutor() as clients:
            write = clients.submit(ask, leader, "POST", "/configs/create", {"Name": "lost", "Data": "YQ=="})
            wait_until(lambda: leader.swarm()["Error"] == NO_LEADER, "it notices")
            read = clients.submit(ask, leader, "GET", "/services")
            assert told(read.exception(60)) == (500, NO_LEADER)
            # If it was on its way to the others already, only they can say what became of it.
            refusal = told(write.exception(60))
            assert refusal in ((500, NO_LEADER), (500, IN_DOUBT))
        assert leader.swarm()["Error"] == NO_LEADER
        names = {network["Name"] for network in ask(leader, "GET", "/networks")}
        assert {"ingress", "bridge"} <= names, "networks are told from the own copy"
        another_leads(several, others[0], leader)
        wait_until(lambda: several.standing(others[0])[leader.network.hostname] == "unreachable", "it is missed")
        leader.network.heal()
        wait_until(several.all_reachable, "all managers are back", timeout=30)
        wait_until(lambda: leader.swarm()["Error"] == "", "it knows a leader")
    ledger.check()
    made = [config["ID"] for config in leader.api.get("/configs") if config["Spec"]["Name"] == "lost"]
    assert not made or refusal[1] == IN_DOUBT
    for config_id in made:
        leader.api.delete(f"/configs/{config_id}")
    assert ledger.longest_gap() <= allowed(LEADER_WITHIN)
    wait_until(lambda: len(several.running("web")) == 4, "everything runs")
    wait_until(lambda: len([c for m in several.machines for c in m.task_containers()]) == 4, "and nothing twice")


def test_a_link_that_comes_and_goes_does_not_stop_those_who_write(several: Managers) -> None:
    leader, follower = several.leader(), several.followers()[0]
    unseated = 0
    with Ledger([machine for machine in several.managers if machine is not follower]) as ledger:
        for _ in range(6):
            follower.network.cut()
            time.sleep(0.4)
            follower.network.heal()
            time.sleep(0.6)
            before, leader = leader, several.leader()
            unseated += leader is not before
    wait_until(several.all_reachable, "all managers are back", timeout=30)
    ledger.check()
    assert ledger.longest_gap() <= allowed(LEADER_WITHIN)
    assert unseated <= 2, "pre-vote: who comes back does not unseat the leader; a busy machine may"


def test_without_a_majority_nothing_changes_and_everything_goes_on(several: Managers) -> None:
    several.create_service("web", 4)
    leader, others = several.leader(), several.followers()
    running = {machine: pids(machine) for machine in several.machines}
    for machine in others:
        machine.kill()
    wait_until(lambda: leader.swarm()["Error"] == NO_LEADER, "the last one notices")
    began = time.monotonic()
    for call in (("GET", "/services", None), ("POST", "/configs/create", {"Name": "x", "Data": "YQ=="})):
        with pytest.raises(ApiError) as refused:
            ask(leader, *call)
        assert told(refused.value) == (500, NO_LEADER)
    assert 8 < time.monotonic() - began < allowed(14), "each waits for an election"
    assert several.workers[0].state() == "active"
    # A manager that starts alone waits for the others, too.
    leader.kill()
    leader.start()
    with pytest.raises(ApiError, match="does not have a leader"):
        ask(leader, "GET", "/services")
    for machine in others:
        machine.start()
    wait_until(several.all_reachable, "all managers are back", timeout=40)
    wait_until(lambda: len(several.running("web")) == 4, "everything runs")
    assert {machine: pids(machine) for machine in several.machines} == running
    assert "x" not in {config["Spec"]["Name"] for config in ask(leader, "GET", "/configs")}


def test_all_managers_that_are_killed_at_once_come_back_with_everything(several: Managers) -> None:
    several.create_service("web", 8)
    running = {machine: pids(machine) for machine in several.machines}
    with Ledger(several.managers) as ledger:
        more_writes(ledger)
        for machine in several.managers:
            machine.kill()
        assert set(pids(several.workers[0])) == set(running[several.workers[0]]), "the worker's tasks go on"
        for machine in several.managers:
            machine.start()
        wait_until(several.all_reachable, "all managers are back", timeout=40)
    ledger.check()
    wait_until(lambda: set(several.states().values()) == {"ready"}, "all nodes are ready", timeout=30)
    wait_until(lambda: len(several.running("web")) == 8, "everything runs")
    assert {machine: pids(machine) for machine in several.machines} == running


@pytest.mark.parametrize("loss", ["input", "some"], ids=["it hears nobody", "every twentieth packet is lost"])
def test_a_leader_on_a_bad_link_holds_nobody_up_for_long(several: Managers, loss: str) -> None:
    leader = several.leader()
    rule = "drop" if loss == "input" else "numgen random mod 20 0 drop"
    with Ledger(several.followers_of(leader)) as ledger:
        more_writes(ledger)
        with bad_link(leader, rule):
            time.sleep(5)
        wait_until(several.all_reachable, "all managers are back", timeout=30)
    ledger.check()
    assert ledger.longest_gap() <= allowed(LEADER_WITHIN)
    assert ledger.acknowledged


@contextmanager
def bad_link(machine: Machine, rule: str) -> Iterator[None]:
    """What becomes of packets that reach a machine; it can still send."""
    table = f"table inet bad {{ chain in {{ type filter hook input priority -300; iifname eth0 {rule}; }}; }}"
    machine.network.host.run("nft", table)
    try:
        yield
    finally:
        machine.network.host.run("nft", "delete table inet bad")


def test_a_manager_whose_disk_is_full_is_out_of_the_way_until_there_is_room(several: Managers) -> None:
    machine = several.leader()
    others = several.followers_of(machine)
    ballast = put_on_a_disk_of_its_own(machine) / "ballast"
    wait_until(several.all_reachable, "it is back on the small disk", timeout=30)
    with Ledger(others) as ledger:
        fill(ballast)
        filler = "A" * 400_000  # base64: what is written ahead is used up soon
        for number in range(400):
            ask(others[0], "POST", "/configs/create", {"Name": f"filler{number}", "Data": filler})
            if several.standing(others[0])[machine.network.hostname] == "unreachable":
                break
        wait_until(lambda: several.standing(others[0])[machine.network.hostname] == "unreachable", "it is missed")
        assert "no space left on device" in machine.log_tail(400)
        ballast.unlink()
        wait_until(several.all_reachable, "it is back", timeout=40)
    ledger.check()
    assert ledger.longest_gap() <= allowed(LEADER_WITHIN)
    for config in several.manager.api.get("/configs"):
        if config["Spec"]["Name"].startswith("filler"):
            several.manager.api.delete(f"/configs/{config['ID']}")


def fill(file: Path) -> None:
    """Leave no room on its disk."""
    with file.open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(b"\0" * (1 << 20))


def put_on_a_disk_of_its_own(machine: Machine) -> Path:
    """The swarm's state of a manager; the disk goes with the machine."""
    state, aside = machine.data_root / "swarm", machine.directory / "aside"
    machine.stop()
    state.rename(aside)
    state.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(state)], check=True)
    shutil.copytree(aside, state, dirs_exist_ok=True)
    machine.start()
    return state


FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@pytest.mark.skipif(not FAKETIME.exists(), reason="needs faketime")
def test_a_clock_that_is_set_moves_neither_leadership_nor_tasks(several: Managers) -> None:
    several.create_service("web", 4)
    machine = several.followers()[0]
    clock = machine.directory / "clock"
    clock.write_text("+0")
    machine.environment = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    machine.stop()
    machine.start()
    machine.environment = {}
    wait_until(several.all_reachable, "it is back", timeout=30)
    leader, tasks = several.leader(), {task["ID"] for task in several.tasks("web")}
    moved = 0
    with Ledger(several.managers) as ledger:
        for jump in ("+50m", "-50m", "+0"):
            more_writes(ledger)
            clock.write_text(jump)
            time.sleep(3)  # in which heartbeats and elections would go wrong: that nothing happens cannot be waited for
            before, leader = leader, several.leader()
            moved += leader is not before
    ledger.check()
    assert ledger.longest_gap() <= allowed(LEADER_WITHIN)
    assert moved <= 1, "a jump of the clock does not move leadership; a busy machine may, now and then"
    assert set(several.states().values()) == {"ready"}
    assert {task["ID"] for task in several.tasks("web")} == tasks
