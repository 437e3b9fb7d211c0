from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enxame.engine.patterns import any_matches, check_pattern
from enxame.errors import InvalidArgument


@pytest.mark.parametrize(
    ("values", "text", "expected"),
    [
        (["web"], "my-web-1", True),
        (["web", "db"], "a-db", True),
        (["^web$"], "web", True),
        (["^web$"], "web2", False),
        (["we.$", "db"], "xweb", True),
        ([r"\Aa.*b\z", "zz"], "a--b", True),
        (["[[:digit:]]"], "a1", True),
        (["^a", "b$"], "xb", True),
    ],
)
def test_a_value_is_found_anywhere_unless_it_is_anchored(values: list[str], text: str, expected: bool) -> None:
    assert any_matches(frozenset(values))(text) is expected


@pytest.mark.parametrize("broken", ["(", "a)", "[z-a]", "x{2,1}", "(?=look)", "*", "\\"])
def test_what_is_no_pattern_only_matches_itself(broken: str) -> None:
    passes = any_matches(frozenset([broken]))
    assert passes(broken)
    assert not passes(f"{broken}x")


def test_a_part_that_is_no_pattern_does_not_change_the_others() -> None:
    passes = any_matches(frozenset(["a)|(b", "c.e"]))
    assert passes("cde")
    assert not passes("xbx")


def test_nothing_matches_no_value() -> None:
    assert not any_matches(frozenset())("web")


@pytest.mark.parametrize("evil", ["(a+)+$", "(a|aa)+$", "(.*)*b", "(a*)*c", "((a{9}){9}){9}c", "(x+x+)+y"])
def test_no_pattern_takes_more_than_linear_time(evil: str) -> None:
    # A backtracking engine would not end in this world's time.
    assert not any_matches(frozenset([evil]))("a" * 50_000 + "!")


def test_patterns_that_are_too_large_together_are_refused() -> None:
    many = frozenset(f"[^{letter}]{{30}}" for letter in "abcdefghijklmnopqrstuvwxyz")
    any_matches(frozenset(["[^a]{30}"]))
    for values in (many, frozenset(["[^a]{1000}"]), frozenset([r"\pL{1000}" * 9])):
        with pytest.raises(InvalidArgument, match="the patterns are too large"):
            any_matches(values)


def test_a_thousand_names_are_looked_for_at_once() -> None:
    passes = any_matches(frozenset(f"name-{n}-" for n in range(1000)))
    assert passes("the-name-999-x")
    assert not passes("the-name-1000-x")


def test_a_log_option_that_is_no_pattern_is_refused() -> None:
    check_pattern("^com.docker")
    with pytest.raises(InvalidArgument, match="error parsing regexp"):
        check_pattern("a(")
    with pytest.raises(InvalidArgument, match="too large"):
        check_pattern("[^a]{1000}")


@given(st.frozensets(st.text(max_size=60), max_size=5), st.text(max_size=40))
def test_whatever_clients_send_is_answered(values: frozenset[str], text: str) -> None:
    try:
        passes = any_matches(values)
    except InvalidArgument:
        return
    assert passes(text) in {True, False}
    assert all(passes(value) for value in values)
