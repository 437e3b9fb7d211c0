"""Which nodes are held to be alive. Times are in seconds; a period is one second unless a test says otherwise."""

import pytest

from enxame.control.heartbeats import (
    BRAKE_LIMIT,
    FIRST_PROBATION,
    FLAPS,
    GRACE,
    LONGEST_EXCUSE,
    LONGEST_PROBATION,
    RETURN_GRACE,
    Health,
    HeartbeatBook,
    heartbeat_period,
    takeover_grace,
)
from enxame.model.cluster import NANOSECONDS

STEP = 0.25


class Nodes:
    """A book whose nodes beat once a second while they are in ``alive``."""

    def __init__(self, count: int, *, others: int = 1) -> None:
        self.book = HeartbeatBook(others)
        self.now = 100.0
        self.alive = {f"n{i}" for i in range(count)}
        self.changes: list[tuple[float, str, Health]] = []
        for node in sorted(self.alive):
            self.book.register(node, self.now, 1.0)
        self.began = self.now

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += STEP
            if self.now % 1.0 == 0:
                for node in self.alive:
                    self.book.beat(node, self.now, 1.0)
            self.tick()

    def tick(self) -> None:
        verdicts = self.book.tick(self.now, STEP)
        self.changes += [(self.now, node, health) for node, health in verdicts]
        self.book.said(node for node, _ in verdicts)

    def seen(self) -> list[tuple[str, Health]]:
        return [(node, health) for _, node, health in self.changes]


@pytest.mark.parametrize(
    ("nodes", "configured", "seconds"),
    [
        (1, 0, 1.0),
        (1, 5 * NANOSECONDS, 1.0),  # Swarm's default counts as unset
        (500, 5 * NANOSECONDS, 1.0),
        (5000, 5 * NANOSECONDS, 10.0),
        (5000, 2 * NANOSECONDS, 2.0),
        (1, 10 * NANOSECONDS, 10.0),
        (1, NANOSECONDS // 2, 0.5),
    ],
)
def test_the_period_grows_with_the_swarm_unless_it_was_set(nodes: int, configured: int, seconds: float) -> None:
    assert heartbeat_period(nodes, configured) == seconds


def test_nodes_that_beat_are_never_judged() -> None:
    nodes = Nodes(5)
    nodes.run(600)
    assert nodes.changes == []
    assert nodes.book.health("n0") is Health.UP


def test_a_silent_node_is_down_after_three_periods() -> None:
    nodes = Nodes(2)
    nodes.run(10)
    nodes.alive.remove("n0")
    last_beat = nodes.now
    nodes.run(10)
    assert nodes.changes == [(last_beat + GRACE, "n0", Health.DOWN)]


@pytest.mark.parametrize("period", [0.5, 1.0, 10.0])
def test_a_node_gets_the_period_that_it_was_told(period: float) -> None:
    book = HeartbeatBook()
    book.register("n", 0.0, 1.0)
    assert book.beat("n", 1.0, period)
    assert book.tick(1.0 + GRACE * period - 0.1, 1000) == []
    assert book.tick(1.0 + GRACE * period, 1000) == [("n", Health.DOWN)]


def test_a_node_that_is_down_or_unknown_must_report_for_duty() -> None:
    nodes = Nodes(2)
    nodes.book.expect("new", nodes.now, 1.0)
    assert not nodes.book.beat("new", nodes.now, 1.0)
    assert not nodes.book.beat("nobody", nodes.now, 1.0)
    nodes.alive.clear()
    nodes.run(5)
    assert not nodes.book.beat("n0", nodes.now, 1.0)
    assert nodes.book.register("n0", nodes.now, 1.0) is Health.UP
    assert nodes.book.beat("n0", nodes.now, 1.0)


def test_after_a_restart_of_the_manager_nodes_get_the_time_to_come_back() -> None:
    nodes = Nodes(0)
    nodes.book.expect("slow", nodes.now, 1.0)
    nodes.book.expect("gone", nodes.now, 1.0)
    nodes.run(RETURN_GRACE - 1)
    nodes.book.register("slow", nodes.now, 1.0)
    nodes.alive.add("slow")
    nodes.run(10)
    assert nodes.changes == [(nodes.began + RETURN_GRACE, "gone", Health.DOWN)]


def test_a_large_swarm_gets_longer_to_come_back() -> None:
    book = HeartbeatBook()
    book.expect("n", 0.0, 10.0)
    assert book.tick(59.0, 1000) == []
    assert book.tick(60.0, 1000) == [("n", Health.DOWN)]


@pytest.mark.parametrize("pause", [1.5, 4.0, 30.0, 3600.0])
def test_a_manager_that_was_paused_starts_counting_anew(pause: float) -> None:
    nodes = Nodes(4)
    nodes.run(10)
    nodes.alive.clear()
    nodes.now += pause
    nodes.tick()
    back = nodes.now
    nodes.run(RETURN_GRACE - 1)
    assert nodes.changes == []
    for node in ("n0", "n1", "n2"):
        nodes.book.beat(node, nodes.now, 1.0)
        nodes.alive.add(node)
    nodes.run(10)
    assert nodes.changes == [(back + RETURN_GRACE, "n3", Health.DOWN)]


def test_a_manager_that_is_a_little_late_gives_that_time_back() -> None:
    nodes = Nodes(2)
    nodes.run(10)
    nodes.alive.remove("n0")
    last_beat = nodes.now
    nodes.run(1)
    nodes.now += 0.75  # so late was the next tick, beyond its interval
    nodes.run(5)
    assert [node for _, node, _ in nodes.changes] == ["n0"]
    assert nodes.changes[0][0] == pytest.approx(last_beat + GRACE + 0.75, abs=STEP)


@pytest.mark.parametrize(
    ("count", "lost", "expected"),
    [
        (2, 2, Health.DOWN),  # two are too few to suspect ourselves
        (4, 2, Health.DOWN),
        (3, 3, Health.HELD),  # three of four, with the manager
        (5, 3, Health.DOWN),  # half is not more than half
        (6, 4, Health.HELD),
        (50, 25, Health.DOWN),
        (50, 26, Health.HELD),
    ],
)
def test_the_brake_holds_when_more_than_half_are_lost_at_once(count: int, lost: int, expected: Health) -> None:
    nodes = Nodes(count)
    nodes.run(10)
    for i in range(lost):
        nodes.alive.remove(f"n{i}")
    nodes.run(10)
    assert sorted(nodes.seen()) == sorted((f"n{i}", expected) for i in range(lost))


def test_the_brake_sees_also_those_whose_time_is_not_up_yet() -> None:
    """Their last beats lie up to a period apart; the first to be missed must not be replaced."""
    book = HeartbeatBook()
    for i in range(4):
        book.register(f"n{i}", i * 0.3, 1.0)
    assert book.tick(3.0, STEP) == [("n0", Health.HELD)]


def test_the_brake_ends_when_enough_are_back() -> None:
    nodes = Nodes(5)
    nodes.run(10)
    nodes.alive = {"n4"}
    nodes.run(20)
    assert {health for _, health in nodes.seen()} == {Health.HELD}
    nodes.changes.clear()
    nodes.alive = {"n2", "n3", "n4"}
    nodes.run(RETURN_GRACE + 2)
    assert sorted(nodes.seen()[:2]) == [("n2", Health.UP), ("n3", Health.UP)]
    assert sorted(nodes.seen()[2:]) == [("n0", Health.DOWN), ("n1", Health.DOWN)]


def test_the_brake_does_not_hold_for_ever() -> None:
    nodes = Nodes(5)
    nodes.run(10)
    nodes.alive.clear()
    lost = nodes.now
    nodes.run(BRAKE_LIMIT + 10)
    downs = [when for when, _, health in nodes.changes if health is Health.DOWN]
    assert len(downs) == 5
    assert lost + BRAKE_LIMIT <= downs[0] <= lost + BRAKE_LIMIT + GRACE + STEP


def test_losing_one_after_the_other_is_no_mass_loss() -> None:
    nodes = Nodes(5)
    for i in range(5):
        nodes.run(20)
        nodes.alive.remove(f"n{i}")
    nodes.run(20)
    assert nodes.seen() == [(f"n{i}", Health.DOWN) for i in range(5)]


def test_a_cascade_is_held() -> None:
    """Each loss falls within the window of the one before: soon that is more than half."""
    nodes = Nodes(5)
    nodes.run(10)
    for i in range(4):
        nodes.alive.remove(f"n{i}")
        nodes.run(4)
    assert nodes.seen() == [("n0", Health.DOWN), ("n1", Health.DOWN), ("n2", Health.DOWN), ("n3", Health.HELD)]


def test_a_node_that_flaps_must_prove_itself_longer_and_longer() -> None:
    nodes = Nodes(3)
    waits = []
    for _ in range(FLAPS + 5):
        nodes.alive.discard("n0")
        nodes.run(5)
        assert nodes.book.health("n0") is Health.DOWN
        came_back = nodes.now
        health = nodes.book.register("n0", nodes.now, 1.0)
        nodes.alive.add("n0")
        nodes.changes.clear()
        if health is Health.PROBATION:
            assert nodes.book.beat("n0", nodes.now, 1.0)
            while not nodes.changes:
                nodes.run(STEP)
            assert nodes.seen() == [("n0", Health.UP)]
            waits.append(nodes.now - came_back)
        else:
            waits.append(0.0)
    assert waits[: FLAPS - 1] == [0.0] * (FLAPS - 1)
    proofs = [wait for wait in waits if wait]
    assert proofs[:4] == [FIRST_PROBATION, FIRST_PROBATION * 2, FIRST_PROBATION * 4, FIRST_PROBATION * 8]
    assert max(proofs) <= LONGEST_PROBATION


def test_registering_again_does_not_shorten_a_probation() -> None:
    nodes = Nodes(2)
    for _ in range(FLAPS):
        nodes.alive.discard("n0")
        nodes.run(5)
        nodes.book.register("n0", nodes.now, 1.0)
        nodes.alive.add("n0")
    assert nodes.book.register("n0", nodes.now, 1.0) is Health.PROBATION
    nodes.run(FIRST_PROBATION - 1)
    assert nodes.book.health("n0") is Health.PROBATION


def test_a_node_that_fails_in_its_probation_is_down_again() -> None:
    nodes = Nodes(2)
    for _ in range(FLAPS):
        nodes.alive.discard("n0")
        nodes.run(5)
        nodes.book.register("n0", nodes.now, 1.0)
    nodes.changes.clear()
    nodes.run(60)
    assert nodes.seen() == [("n0", Health.DOWN)]


def test_old_failures_are_forgiven() -> None:
    nodes = Nodes(2)
    for _ in range(FLAPS + 1):
        nodes.alive.discard("n0")
        nodes.run(5)
        nodes.book.register("n0", nodes.now, 1.0)
        nodes.alive.add("n0")
        nodes.run(700)
    assert nodes.book.health("n0") is Health.UP


def test_a_node_that_left_is_no_loss() -> None:
    nodes = Nodes(5)
    nodes.run(10)
    for i in range(3):
        nodes.book.note_down(f"n{i}", nodes.now)
        nodes.alive.remove(f"n{i}")
    nodes.alive.remove("n3")
    nodes.run(10)
    assert nodes.seen() == [("n3", Health.DOWN)]


def test_a_removed_node_is_forgotten() -> None:
    nodes = Nodes(2)
    nodes.book.forget("n0")
    nodes.alive.remove("n0")
    nodes.run(10)
    assert nodes.changes == []
    assert nodes.book.health("n0") is None
    assert len(nodes.book) == 1


def test_a_node_that_said_it_restarts_is_waited_for():
    nodes = Nodes(2)
    assert nodes.book.excuse("n1", nodes.now, 20.0)
    nodes.alive.remove("n1")
    nodes.run(19)
    assert nodes.seen() == []
    nodes.book.register("n1", nodes.now, 1.0)
    nodes.alive.add("n1")
    nodes.run(10)
    assert nodes.seen() == []
    nodes.alive.remove("n1")
    nodes.run(GRACE + 2)
    assert nodes.seen() == [("n1", Health.DOWN)], "the excuse was for once"


def test_a_node_that_does_not_come_back_as_it_said_is_down():
    nodes = Nodes(2)
    nodes.book.excuse("n1", nodes.now, 20.0)
    nodes.alive.remove("n1")
    nodes.run(21)
    assert nodes.seen() == [("n1", Health.DOWN)]


def test_a_last_heartbeat_after_the_excuse_does_not_end_it():
    nodes = Nodes(2)
    nodes.book.excuse("n1", nodes.now, 20.0)
    nodes.book.beat("n1", nodes.now, 1.0)
    nodes.alive.remove("n1")
    nodes.run(10)
    assert nodes.seen() == []


def test_an_excuse_is_bounded_and_only_for_those_that_are_waited_for():
    nodes = Nodes(2)
    nodes.book.excuse("n1", nodes.now, 1e9)
    nodes.alive.remove("n1")
    nodes.run(LONGEST_EXCUSE + 1)
    assert nodes.seen() == [("n1", Health.DOWN)]
    assert not nodes.book.excuse("n1", nodes.now, 20.0)
    assert not nodes.book.excuse("n7", nodes.now, 20.0)


def test_many_nodes_that_restart_in_order_do_not_pull_the_brake():
    nodes = Nodes(8)
    for number in range(5):
        nodes.book.excuse(f"n{number}", nodes.now, 20.0)
        nodes.alive.remove(f"n{number}")
    nodes.run(10)
    nodes.alive.remove("n7")
    nodes.run(GRACE + 1)
    assert nodes.seen() == [("n7", Health.DOWN)]


def test_a_node_that_could_not_be_taken_up_has_the_time_to_come_again():
    nodes = Nodes(2)
    nodes.alive.remove("n1")
    for _ in range(10):
        nodes.run(GRACE - 1)
        nodes.book.register("n1", nodes.now, 1.0)
        nodes.book.turned_away("n1", nodes.now)
        nodes.run(8)
    assert nodes.seen() == []
    nodes.run(RETURN_GRACE)
    assert nodes.seen() == [("n1", Health.DOWN)]


def test_a_manager_that_hangs_after_it_said_that_it_looks_blames_nobody():
    book = HeartbeatBook()
    book.expect("n1", 100.0, 1.0)
    assert book.tick(100.0, STEP) == []
    seen = []
    for step in range(int((RETURN_GRACE + 1) / STEP)):
        seen += [(step * STEP, change) for change in book.tick(130.0 + step * STEP, STEP)]
    assert seen == [(RETURN_GRACE, ("n1", Health.DOWN))]


@pytest.mark.parametrize(
    ("nodes", "period", "grace"), [(4, 1.0, 6.04), (300, 1.0, 9.0), (1000, 2.0, 15.0), (5000, 10.0, 60.0)]
)
def test_a_leader_that_took_over_at_once_gives_nodes_less_time_but_counts_them(nodes, period, grace):
    assert takeover_grace(nodes, period) == pytest.approx(grace)


def test_a_node_that_does_not_come_to_the_new_leader_is_down_when_its_time_is_over():
    nodes = Nodes(0)
    for node in ("n0", "n1"):
        nodes.book.expect(node, nodes.now, 1.0, takeover_grace(2, 1.0))
    nodes.run(2)
    nodes.book.register("n0", nodes.now, 1.0)
    nodes.alive = {"n0"}
    nodes.run(3.75)
    assert nodes.seen() == []
    nodes.run(0.5)
    assert nodes.seen() == [("n1", Health.DOWN)]


def test_those_that_are_still_missing_when_the_brake_ends_have_the_time_to_come_back() -> None:
    nodes = Nodes(8)
    lost = [f"n{number}" for number in range(6)]
    nodes.alive -= set(lost)
    nodes.run(30)
    assert nodes.seen() == [(node, Health.HELD) for node in lost]
    nodes.changes.clear()
    for node in lost[:4]:
        nodes.book.register(node, nodes.now, 1.0)
        nodes.alive.add(node)
    nodes.run(RETURN_GRACE - 1)
    assert nodes.seen() == []
    nodes.book.register("n4", nodes.now, 1.0)
    nodes.alive.add("n4")
    nodes.run(2)
    assert nodes.seen() == [("n5", Health.DOWN)]


def test_held_nodes_do_not_look_well_because_the_manager_was_late() -> None:
    nodes = Nodes(8)
    lost = [f"n{number}" for number in range(6)]
    nodes.alive -= set(lost)
    nodes.run(10)
    nodes.changes.clear()
    nodes.now += 5
    nodes.tick()
    assert nodes.seen() == []


@pytest.mark.parametrize("written_down", [False, True])
def test_a_verdict_that_could_not_be_written_down_before_the_manager_hung_is_forgotten(written_down: bool) -> None:
    nodes = Nodes(3)
    nodes.alive.remove("n1")
    while nodes.book.health("n1") is not Health.DOWN:
        nodes.now += STEP
        for node in nodes.alive:
            nodes.book.beat(node, nodes.now, 1.0)
        nodes.book.tick(nodes.now, STEP)
    if written_down:
        nodes.book.said(["n1"])
    nodes.now += 60
    nodes.tick()
    assert nodes.book.health("n1") is (Health.DOWN if written_down else Health.UP)
    nodes.run(RETURN_GRACE + 1)
    assert nodes.book.health("n1") is Health.DOWN
    assert nodes.book.register("n1", nodes.now, 1.0) is Health.UP
