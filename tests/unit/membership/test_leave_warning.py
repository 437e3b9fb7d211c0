import pytest

from enxame.membership.leave_warning import leave_warning

START = "You are attempting to leave the swarm on a node that is participating as a manager. "
END = (
    "The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use "
    "`--force` to suppress this message."
)


def counted(left: int, total: int) -> str:
    return (
        f"{START}Removing this node leaves {left} managers out of {total}. Without a Raft quorum your swarm will be "
        f"inaccessible. {END}"
    )


def test_the_last_manager_takes_the_swarm_with_it():
    assert leave_warning(1, 0) == (
        f"{START}Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message."
    )


@pytest.mark.parametrize(("reachable", "unreachable"), [(2, 0), (2, 1), (3, 1), (3, 2)])
def test_a_leaving_that_costs_the_quorum_is_counted(reachable, unreachable):
    assert leave_warning(reachable, unreachable) == counted(reachable - 1, reachable + unreachable)


@pytest.mark.parametrize(("reachable", "unreachable"), [(3, 0), (4, 1), (5, 0)])
def test_one_of_many_is_warned_without_counts(reachable, unreachable):
    assert leave_warning(reachable, unreachable) == START + END


def test_without_a_leader_nobody_is_counted():
    assert leave_warning(0, 0) == START + END
