from itertools import permutations

import pytest

from enxame.membership.worker_session import next_manager


@pytest.mark.parametrize("managers", [list(order) for order in permutations("abcd")])
def test_all_managers_are_tried_in_turn_whatever_their_order(managers):
    address, tried = "", []
    for _ in range(2 * len(managers)):
        address = next_manager(managers, "", address, address)
        tried.append(address)
    assert tried == managers * 2


@pytest.mark.parametrize("managers", [list(order) for order in permutations("abc")])
def test_who_was_named_by_the_others_and_failed_is_not_tried_before_them(managers):
    address, tried = "", []
    for _ in range(4):
        address = next_manager(managers, "", address, "c")
        tried.append(address)
    assert sorted(tried) == ["a", "a", "b", "b"]
    assert tried[0] != tried[1]


def test_a_single_manager_is_tried_again():
    assert next_manager(["a"], "", "a", "a") == "a"
    assert next_manager(["a", "own"], "own", "a", "a") == "a"
    assert next_manager(["own"], "own", "", "") == ""
    assert next_manager([], "", "", "") == ""


def test_an_address_that_is_not_known_any_more_begins_anew():
    assert next_manager(["a", "b"], "", "gone", "gone") == "a"
