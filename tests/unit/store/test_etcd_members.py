import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enxame.errors import InvalidArgument
from enxame.store.etcd_leadership import may_claim
from enxame.store.etcd_members import check_removal, initial_cluster, keeps_quorum, quorum, successor
from enxame.store.etcd_messages import Member, Status
from enxame.store.etcd_records import Epoch


def member(name, number, *, learner=False):
    return Member(number, name, (f"https://{name}:2380",), learner)


@given(st.integers(1, 9), st.data())
def test_removal_is_safe_exactly_when_the_rest_can_decide(count, data):
    voters = [f"n{n}" for n in range(count)]
    up = data.draw(st.sets(st.sampled_from(voters)))
    gone = data.draw(st.sampled_from(voters))
    rest = set(voters) - {gone}
    decides = any(
        2 * len(group) > len(rest) for size in range(len(up) + 1) for group in itertools.combinations(up & rest, size)
    )
    assert keeps_quorum(voters, up, gone) == (bool(rest) and decides)


@given(st.integers(1, 9), st.data())
def test_promoting_one_that_is_there_never_costs_the_quorum(count, data):
    up = data.draw(st.integers(quorum(count), count))
    assert up + 1 >= quorum(count + 1)


def test_learners_may_always_go():
    members = [member("a", 1), member("b", 2), member("c", 3, learner=True)]
    check_removal(members, {"a"}, "c")
    with pytest.raises(InvalidArgument, match="loss of quorum"):
        check_removal([member("a", 1), member("b", 2), member("c", 3)], {"a", "b"}, "b")
    check_removal([member("a", 1), member("b", 2), member("c", 3)], {"a", "b"}, "c")


def test_leadership_goes_to_a_voter_that_is_there():
    members = [member("a", 1), member("b", 2), member("c", 3), member("d", 0, learner=True)]
    assert successor(members, {"a", "c", "d"}, leaving=1).name == "c"
    assert successor(members, {"a"}, leaving=1) is None


def test_a_joining_member_learns_everybodys_address_and_its_own_name():
    members = [member("a", 1), Member(2, "", ("https://b:2380",), True)]
    assert initial_cluster(members, "b", "https://b:2380") == {"a": "https://a:2380", "b": "https://b:2380"}


def status(*, leader=1, member=1, term=5, learner=False):
    return Status(member, leader, term, 1, "3.4.23", learner)


EPOCH = Epoch("n9", "other", 9, 5, 0, 50)


@pytest.mark.parametrize(
    ("says", "newest", "silent", "may"),
    [
        (status(leader=0), None, 0, False),
        (status(), None, 0, True),
        (status(leader=2), None, 99, False),
        (status(learner=True), None, 0, False),
        (status(term=6), EPOCH, 0, True),
        (status(term=5), EPOCH, 0, False),
        (status(leader=2, term=6), EPOCH, 0, False),
        (status(leader=2, term=6), EPOCH, 2, True),
        (status(leader=0, term=6), EPOCH, 2, False),
        (status(term=5), Epoch("n1", "mine", 1, 5, 0, 50), 0, True),
    ],
)
def test_who_may_begin_an_epoch(says, newest, silent, may):
    assert may_claim(says, newest, claim="mine", silent_for=silent, patience=1.0) is may
